import { randomMessages } from "./random-messages.ts";

randomMessages(200);
