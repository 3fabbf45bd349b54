import { test } from "bun:test";
import { randomScripts } from "../scripts.ts";

test("whatever the script is, it ends, in a result or an error of a line: 100,000 of them", () => {
  randomScripts(100_000);
}, 3_600_000);
