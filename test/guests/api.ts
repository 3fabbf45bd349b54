/** A real chv with its API, as a user drives it: with curl. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ApiClient } from "../../src/http/client.ts";
import { chvCommand, guestTimeoutMs } from "./harness.ts";
import { Follower } from "./process.ts";

/** A client of a machine that has just been started: it runs before anybody may ask. */
export async function apiAt(socket: string): Promise<ApiClient> {
  const api = new ApiClient(socket);
  const answers = () => api.call("get", "vmm.ping").then(Boolean, () => false);
  while (!(await answers())) await Bun.sleep(1);
  return api;
}

export interface Answer {
  readonly status: number;
  readonly body: string;
  readonly type: string;
}

export class ApiProcess extends Follower {
  constructor(
    command: readonly string[],
    readonly folder: string,
  ) {
    super(command, guestTimeoutMs);
  }

  get socket(): string {
    return join(this.folder, "api.sock");
  }

  static async start(...more: string[]): Promise<ApiProcess> {
    const folder = mkdtempSync(join(tmpdir(), "chv-api-"));
    return ApiProcess.startIn(folder, ...more);
  }

  static async startIn(folder: string, ...more: string[]): Promise<ApiProcess> {
    const socket = join(folder, "api.sock");
    const command = [...(await chvCommand()), "--api-socket", socket, ...more];
    const chv = new ApiProcess(command, folder);
    await chv.answers();
    return chv;
  }

  /** Resolves when a ping is answered, or when the process has ended. */
  async answers(): Promise<void> {
    let ended = false;
    void this.ended().then(() => {
      ended = true;
    });
    while (!ended && (await this.ask("GET", "vmm.ping")).status !== 200);
  }

  async ask(
    method: string,
    operation: string,
    body?: unknown,
    accept = "application/json",
  ): Promise<Answer> {
    const data = body === undefined ? [] : ["-d", JSON.stringify(body)];
    const curl = Bun.spawn(
      [
        ...[
          "curl",
          "-s",
          "--max-time",
          `${guestTimeoutMs / 1000}`,
          "-w",
          "\n%{http_code}\n%{content_type}",
        ],
        ...["-X", method, "-H", `Accept: ${accept}`],
        ...["--unix-socket", this.socket, ...data, `http://localhost/api/v1/${operation}`],
      ],
      { stdout: "pipe", stderr: "ignore" },
    );
    const lines = (await new Response(curl.stdout).text()).split("\n");
    const [status, type] = lines.splice(-2);
    return { status: Number(status), type: type ?? "", body: lines.join("\n") };
  }

  async put(operation: string, body?: unknown): Promise<number> {
    return (await this.ask("PUT", operation, body)).status;
  }

  async info(): Promise<{ state: string; config: Record<string, unknown> }> {
    return JSON.parse((await this.ask("GET", "vm.info")).body);
  }

  /** Resolves when an event of that name has been told of. */
  async tells(event: string): Promise<void> {
    while (!(await this.ask("GET", "events?follow=false")).body.includes(`"${event}"`));
  }

  override async [Symbol.asyncDispose](): Promise<void> {
    await super[Symbol.asyncDispose]();
    rmSync(this.folder, { recursive: true, force: true });
  }
}
