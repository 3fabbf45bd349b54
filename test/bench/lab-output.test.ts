/** The lines are written by hand, in the form of proc(5): comm is the second field, utime the 14th, stime the 15th. */
import { expect, test } from "bun:test";
import { samplesOf } from "./lab-output.ts";

const stat = (thread: number, comm: string, user: number, system: number) =>
  `${thread} (${comm}) S 1 1 1 0 -1 0 0 0 0 0 ${user} ${system} 0 0`;

test("a sample has its rate, and what each kind of thread used between its two marks", () => {
  const output = [
    "mark begin 4k",
    "result 4k;120;0\r",
    "result net;33.5 ",
    "status 0",
    `cpu begin 4k ${stat(7, "io0", 10, 20)}`,
    `cpu begin 4k ${stat(8, "vcpu0", 1, 1)}`,
    `cpu begin 4k ${stat(9, "JITWorker", 5, 5)}`,
    `cpu end 4k ${stat(7, "io0", 14, 26)}`,
    `cpu end 4k ${stat(8, "vcpu0", 50, 50)}`,
    `cpu end 4k ${stat(10, "ollector Thread", 2, 1)}`, // begun meanwhile; thread 9 has ended
  ].join("\n");

  expect(samplesOf(output)).toEqual([
    { name: "4k", rate: 120, user: 4, system: 6, runtime: 3 },
    { name: "net", rate: 33.5, user: 0, system: 0, runtime: 0 },
  ]);
});
