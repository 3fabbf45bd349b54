/** `chv backend …` of a test: a process behind a vhost-user socket. */
import { existsSync, watch } from "node:fs";
import { basename, dirname } from "node:path";
import { chvCommand, guestTimeoutMs } from "./harness.ts";
import { Follower } from "./process.ts";

/** It ends with the process of the test, however that ends. */
const mortal = ["setpriv", "--pdeathsig", "KILL"];
const started: Follower[] = [];

/** Kills what is left of a test that failed or took too long. */
export async function endBackends(): Promise<void> {
  for (const backend of started.splice(0)) {
    backend.kill("SIGKILL");
    await backend.ended();
  }
}

/** Starts it, by the command `under` if there is one, and waits until its socket is there. Throws, with what it said, when it ends before. */
export async function startBackend(
  socket: string,
  args: readonly string[],
  under: readonly string[] = [],
): Promise<Follower> {
  const there = appears(socket);
  const backend = new Follower(
    [...under, ...mortal, ...(await chvCommand()), "backend", ...args, "--socket", socket],
    guestTimeoutMs,
  );
  started.push(backend);
  const ended = backend.ended();
  const first = await Promise.race([there.then(() => undefined), ended]);
  if (first) throw new Error(`the backend ended with ${first.exitCode}: ${first.stderr}`);
  return backend;
}

/** Resolves when there is a file at the path. */
function appears(path: string): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const watcher = watch(dirname(path), (_, name) => {
    if (name === basename(path) && existsSync(path)) resolve();
  });
  if (existsSync(path)) resolve();
  return promise.finally(() => watcher.close());
}
