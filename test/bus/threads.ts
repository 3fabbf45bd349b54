/** Starts the worker threads of `hammer.ts`. */
import { Worker } from "node:worker_threads";
import type { Task } from "./hammer.ts";

/** Resolves when the thread has done its task. */
export async function hammer(task: Task): Promise<void> {
  const worker = new Worker(new URL("./hammer.ts", import.meta.url), { workerData: task });
  await new Promise((resolve, reject) => {
    worker.once("message", resolve);
    worker.once("error", reject);
  });
  await worker.terminate();
}
