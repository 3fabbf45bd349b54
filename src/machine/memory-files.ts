/** The files that guest memory is made of, and what became of them when the guest touches a page that is not there. */
import type { MachineEvent } from "../bus/event-ring.ts";
import { EventKind } from "../bus/events.ts";
import { ExitReason } from "../ffi/exit-reason.ts";
import { statusOf } from "../ffi/file-status.ts";
import type { VmConfig } from "./config/vm.ts";
import type { RamBacking } from "./ram-backing.ts";
import type { VirtioDevice } from "./virtio/spec.ts";

/** A file that is mapped from its start. */
export interface MemoryFile {
  /** The option that named it. */
  readonly label: string;
  readonly fd: number;
  readonly bytes: number;
}

export function filesOf(
  devices: readonly VirtioDevice[],
  { file, size }: Pick<VmConfig["memory"], "file" | "size">,
  { fd }: Pick<RamBacking, "fd">,
): MemoryFile[] {
  const files: MemoryFile[] = devices.flatMap(({ label, backend }) =>
    backend.kind === "pmem" ? [{ label, fd: backend.spec.fd, bytes: backend.spec.size }] : [],
  );
  if (file !== undefined) files.push({ label: `--memory file=${file}`, fd, bytes: size });
  return files;
}

/** The event, with a word of why before its own, where a file explains a memory fault. */
export function withReason(event: MachineEvent, files: readonly MemoryFile[]): MachineEvent {
  const { kind, a, text } = event;
  if (kind !== EventKind.badExit || a !== ExitReason.KVM_EXIT_MEMORY_FAULT) return event;
  const short = files.find(({ fd, bytes }) => isShort(fd, bytes));
  const why = short ? `${short.label}: the file was cut short under the guest; ` : "";
  return { ...event, text: `${why}${text}` };
}

function isShort(fd: number, bytes: number): boolean {
  const { kind, size } = statusOf(fd);
  return kind === "file" && size < bytes;
}
