/**
 * GRUB's commands (GRUB manual 2.06, section 16) as a boot without a screen needs them. Those that only change what is
 * seen, and drivers, do nothing; those that load another kind of system are known, and refused when an entry needs
 * them; a name that is none of these is an error where it is called.
 */
import { blsEntries } from "./bls-menu.ts";
import { readEnvironmentBlock } from "./environment.ts";
import { holds } from "./expression.ts";
import type { CallContext, Flow, Handler } from "./interpreter.ts";
import { kernelHandlers } from "./kernel-commands.ts";
import type { Loader } from "./loader.ts";
import { menuHandlers } from "./menu-commands.ts";
import { searchHandlers } from "./search.ts";
import { GrubError, shown } from "./syntax.ts";

/** They succeed, and change nothing that matters. */
const without = [
  ...["echo", "rmmod", "lsmod", "sleep", "clear", "cls", "true"],
  ...["terminal_input", "terminal_output", "terminal", "serial", "loadfont", "background_image"],
  ...["background_color", "gettext", "play", "keymap", "videoinfo", "videotest", "list_env"],
  ...["save_env", "password", "password_pbkdf2", "nativedisk", "trust", "distrust"],
  ...[
    "verify_detached",
    "list_trusted",
    "cat",
    "ls",
    "date",
    "at_keyboard",
    "usb_keyboard",
    "pager",
  ],
  ...["lspci", "lsacpi", "lscoreboot", "cbmemc", "rdmsr", "terminfo", "setpci", "authenticate"],
];
/** They are not so here: no key is held, the machine has none of it. */
const never = ["false", "keystatus", "smbios", "cryptomount", "loopback", "legacy_check_password"];
/** They load or do something that chv cannot. */
const elsewhere = [
  ...[
    "chainloader",
    "multiboot",
    "multiboot2",
    "module",
    "module2",
    "xen_hypervisor",
    "xen_module",
  ],
  ...[
    "xen_linux",
    "xen_initrd",
    "ntldr",
    "freedos",
    "plan9",
    "truecrypt",
    "kfreebsd",
    "knetbsd",
    "kopenbsd",
  ],
  ...[
    "fwsetup",
    "halt",
    "reboot",
    "appleloader",
    "drivemap",
    "devicetree",
    "pxechainloader",
    "lsefi",
  ],
  ...[
    "fwconfig",
    "gptsync",
    "parttool",
    "hdparm",
    "legacy_configfile",
    "legacy_source",
    "legacy_kernel",
  ],
  ...[
    "legacy_initrd",
    "cutmem",
    "badram",
    "acpi",
    "write_byte",
    "write_word",
    "write_dword",
    "wrmsr",
    "zfskey",
  ],
];

export function commandsOf(loader: Loader): (name: string) => Handler | undefined {
  const table: Readonly<Record<string, Handler>> = {
    ...Object.fromEntries(without.map((name) => [name, () => true])),
    ...Object.fromEntries(never.map((name) => [name, () => false])),
    ...Object.fromEntries(elsewhere.map((name) => [name, refuse(loader, name)])),
    ...variables,
    ...flows,
    ...searchHandlers(loader),
    ...kernelHandlers(loader),
    ...menuHandlers(loader),
    ...fileHandlers(loader),
    blscfg: (args, context) => blsEntries(loader, args, context),
  };
  return (name) => (Object.hasOwn(table, name) ? table[name] : undefined);
}

/** An entry that does more than that can still load a kernel; one that does not is told of. */
const refuse =
  (loader: Loader, name: string): Handler =>
  (_, { at }) => {
    loader.refused.push(`${shown(at)}: ${name}, which chv does not do`);
    return false;
  };

const flow =
  (to: Flow): Handler =>
  ([count], { interpreter, at }) => {
    if (count !== undefined && to !== "return" && to !== "exit" && count !== "1") {
      throw new GrubError(at, `chv does not know ${to} ${count}`);
    }
    interpreter.flow = to;
    interpreter.code = Number(count) || 0;
    return to !== "return" || count === undefined || count === "0";
  };

const flows: Readonly<Record<string, Handler>> = {
  break: flow("break"),
  continue: flow("continue"),
  return: flow("return"),
  exit: flow("exit"),
  boot: flow("boot"),
};

const variables: Readonly<Record<string, Handler>> = {
  insmod: ([module], { interpreter }) => {
    if (module === "regexp") interpreter.matchesFiles = true;
    return true;
  },
  eval: (args, { interpreter, at }) => interpreter.source(args.join(" "), shown(at)),
  set: ([assignment], { interpreter, at }) => {
    if (assignment === undefined) return true; // it would list them
    const equals = assignment.indexOf("=");
    if (equals <= 0) throw new GrubError(at, `chv does not know "set ${assignment}"`);
    interpreter.environment.set(assignment.slice(0, equals), assignment.slice(equals + 1));
    return true;
  },
  unset: (names, { interpreter }) => {
    for (const name of names) interpreter.environment.unset(name);
    return true;
  },
  export: (names, { interpreter }) => {
    for (const name of names) interpreter.environment.export(name);
    return true;
  },
  setparams: (args, { interpreter }) => {
    interpreter.environment.positional = args;
    return true;
  },
  shift: ([count = "1"], { interpreter }) => {
    const { environment } = interpreter;
    const by = Number(count);
    if (!(by >= 0 && by <= environment.positional.length)) return false;
    environment.positional = environment.positional.slice(by);
    return true;
  },
  /** A counter of boots that failed (Fedora). */
  increment: ([name = ""], { interpreter }) => count(name, 1, interpreter.environment),
  decrement: ([name = ""], { interpreter }) => count(name, -1, interpreter.environment),
  /** The graphics card is on no list. */
  hwmatch: (_, { interpreter }) => {
    interpreter.environment.set("match", "0");
    return true;
  },
  /** `-l`: the processor has long mode; `-p`: PAE. */
  cpuid: (args) => args.every((arg) => arg === "-l" || arg === "--long-mode" || arg === "-p"),
};

function count(name: string, by: number, environment: CallContext["interpreter"]["environment"]) {
  const value = Number.parseInt(environment.get(name), 10);
  environment.set(name, `${(Number.isNaN(value) ? 0 : value) + by}`);
  return true;
}

function fileHandlers(loader: Loader): Readonly<Record<string, Handler>> {
  const test: Handler = (args, { at }) => {
    const stat = (path: string) => {
      const file = loader.find(path);
      return file && loader.stat(file, at);
    };
    return holds(
      args,
      {
        exists: (path) => stat(path) !== undefined,
        isFolder: (path) => stat(path)?.folder === true,
        hasContent: (path) => (stat(path)?.size ?? 0) > 0,
      },
      (what) => {
        throw new GrubError(at, `chv does not know ${what}`);
      },
    );
  };
  return {
    test,
    "[": (args, context) => {
      if (args.at(-1) !== "]") throw new GrubError(context.at, "a [ without ]");
      return test(args.slice(0, -1), context);
    },
    load_env: (args, context) => loadEnvironment(loader, args, context),
  };
}

/** `load_env [--file FILE] [NAME…]`: all variables of the file, or those. */
function loadEnvironment(
  loader: Loader,
  args: readonly string[],
  { interpreter, at }: CallContext,
): boolean {
  const { environment } = interpreter;
  let path = `${environment.get("prefix")}/grubenv`;
  const names: string[] = [];
  for (let i = 0; i < args.length; i++) {
    const arg = args[i]!;
    if (arg === "-f" || arg === "--file") path = args[++i] ?? "";
    else if (arg.startsWith("--file=")) path = arg.slice(7);
    else if (arg !== "-s" && arg !== "--skip-sig") names.push(arg);
  }
  const file = loader.locate(path, at);
  const text = file && loader.readText(file, at);
  const values = text === undefined ? undefined : readEnvironmentBlock(text);
  if (!values) {
    loader.missed(at, `no environment block ${path}`);
    return false;
  }
  for (const [name, value] of values) {
    if (names.length === 0 || names.includes(name)) environment.set(name, value);
  }
  return true;
}
