import { randomMessages } from "../random-messages.ts";

randomMessages(20_000);
