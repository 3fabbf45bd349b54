/**
 * The URLs of all workers. This file must stay beside main.ts: in the compiled binary the `import.meta.url` of every
 * bundled module is the entry's. Every export is a URL of a worker; build.ts makes an entry point of each.
 */
export const vcpuWorkerUrl = new URL("./machine/vcpu-worker.ts", import.meta.url);
export const firstVcpuWorkerUrl = new URL("./machine/first-vcpu-worker.ts", import.meta.url);
export const ioWorkerUrl = new URL("./machine/io-worker.ts", import.meta.url);
export const choreWorkerUrl = new URL("./machine/chore-worker.ts", import.meta.url);
export const apiWorkerUrl = new URL("./http/socket-worker.ts", import.meta.url);
