import { test } from "bun:test";
import { tryRandomBalloon } from "../random-balloon.ts";

test("random chains give back the pages of RAM that they name, and no others", () => {
  tryRandomBalloon(100_000);
}, 600_000);
