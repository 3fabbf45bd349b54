/**
 * `chv ctl console`: a VM's console here, until it ends or the person leaves by the escape key. A terminal is in raw
 * mode meanwhile.
 */
import { isTerminal, rawMode } from "../ffi/terminal.ts";
import type { ApiClient } from "../http/client.ts";
import { escapeKeys } from "./escape-key.ts";

const stdin = 0;
/** Signals that end the client, and what a shell calls them. */
const endingSignals = { SIGTERM: 15, SIGINT: 2, SIGHUP: 1, SIGQUIT: 3 } as const;

/** `name` is a console's; undefined: the one that has said most. `follow`: go on with what it says. */
export async function attachConsole(
  client: ApiClient,
  name: string | undefined,
  follow: boolean,
): Promise<void> {
  const query = new URLSearchParams({ follow: String(follow), ...(name && { console: name }) });
  const response = await client.request("get", `vm.console?${query}`);
  const shown = response.body!.getReader();
  const typed = follow ? Bun.stdin.stream().getReader() : undefined;
  const restore = follow && isTerminal(stdin) ? takeTerminal() : undefined;
  try {
    const output = show(shown).catch((error) => client.lost(error));
    const input = typed && type(typed, client, name, restore !== undefined);
    const left = input?.then((leaves) => (leaves ? undefined : output)) ?? output;
    await Promise.race([output, left]);
  } finally {
    restore?.();
    void shown.cancel().catch(() => {});
    void typed?.cancel().catch(() => {});
  }
}

/** Raw mode, with a way back for every end of this process. */
function takeTerminal(): () => void {
  const restore = rawMode(stdin);
  process.on("exit", restore);
  for (const [signal, number] of Object.entries(endingSignals)) {
    process.on(signal, () => process.exit(128 + number));
  }
  process.stderr.write("chv: attached; Ctrl-A x detaches\r\n");
  return restore;
}

interface Bytes {
  read(): Promise<{ readonly done: boolean; readonly value?: Uint8Array | undefined }>;
}

async function show(reader: Bytes): Promise<void> {
  for (;;) {
    const { done, value } = await reader.read();
    if (done || !value) return;
    process.stdout.write(value);
  }
}

/** True when the person leaves; false when there is nothing more to type. */
async function type(
  reader: Bytes,
  client: ApiClient,
  name: string | undefined,
  terminal: boolean,
): Promise<boolean> {
  const keys = terminal ? escapeKeys() : undefined;
  const decoder = new TextDecoder();
  for (;;) {
    const { done, value } = await reader.read();
    if (done || !value) return false;
    const { bytes, leave } = keys?.(value) ?? { bytes: value, leave: false };
    const data = decoder.decode(bytes, { stream: true });
    if (data !== "") await client.call("put", "vm.console.write", { data, console: name });
    if (leave) return true;
  }
}
