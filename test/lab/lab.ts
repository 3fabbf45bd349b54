/** `./dev lab`: start, run SCRIPT, shell, stop, release (stop unless in use), status, forget. */

import { agentRun, agentShell, CONNECTION_LOST, TIMED_OUT } from "./client.ts";
import { release, start, stop } from "./machine.ts";
import { cache } from "./paths.ts";
import { abandon } from "./qemu.ts";
import { forget } from "./saved.ts";
import { readState } from "./state.ts";

/** start, stop and release hold a lock, so that two at once do not both start it. */
function underLock(command: string): number {
  const again = [process.execPath, import.meta.path, command];
  const child = Bun.spawnSync(["flock", "--close", `${cache}/lab.lock`, ...again], {
    env: { ...process.env, CHV_LAB_LOCKED: "1" },
    stdio: ["ignore", "inherit", "inherit"],
  });
  return child.exitCode ?? 1;
}

async function main(command: string, words: readonly string[]): Promise<number> {
  switch (command) {
    case "start":
    case "stop":
    case "release":
      if (process.env.CHV_LAB_LOCKED !== "1") return underLock(command);
      await { start, stop, release }[command]();
      return 0;
    case "run": {
      if (!readState() && underLock("start") !== 0) return 1;
      const script = words.length > 0 ? words.join(" ") : await Bun.stdin.text();
      const onOutput = (data: Buffer) => void process.stdout.write(data);
      const timeoutMs = Number(process.env.CHV_LAB_TIMEOUT ?? 3600) * 1000;
      const status = await agentRun(script, { onOutput, timeoutMs });
      if (status === CONNECTION_LOST) console.error("lab: connection lost");
      if (status === TIMED_OUT) console.error("lab: timed out");
      return status;
    }
    case "shell":
      if (!readState() && underLock("start") !== 0) return 1;
      await agentShell();
      return 0;
    case "status": {
      const { qemu, cpus, memory } = readState() ?? {};
      console.error(
        qemu
          ? `lab: running, ${cpus} CPUs, ${memory}, QEMU is process ${qemu.pid}`
          : "lab: not running",
      );
      return qemu ? 0 : 1;
    }
    case "forget":
      forget();
      return 0;
    default:
      console.error("lab: start, run SCRIPT, shell, stop, status or forget");
      return 2;
  }
}

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.on(signal, () => {
    abandon();
    process.exit(signal === "SIGINT" ? 130 : 143);
  });
}
try {
  const [command = "", ...words] = process.argv.slice(2);
  process.exitCode = await main(command, words);
} catch (error) {
  console.error(`lab: ${error instanceof Error ? error.message : error}`);
  process.exitCode = 1;
}
