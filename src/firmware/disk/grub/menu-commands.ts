/** `menuentry`, `submenu`, `source`, `configfile`. */
import type { CallContext, Handler } from "./interpreter.ts";
import type { Loader } from "./loader.ts";
import { Menu } from "./menu.ts";
import { GrubError } from "./syntax.ts";

/** Options of an entry that have a value. */
const valued = ["--class", "--users", "--hotkey", "--source", "--id"];

export function menuHandlers(loader: Loader): Readonly<Record<string, Handler>> {
  const source: Handler = ([path = ""], context) => readFile(loader, path, context);
  return {
    menuentry: (args, context) => addEntry(loader, args, context, false),
    // an entry that a key starts, and that is not shown
    hiddenentry: () => true,
    submenu: (args, context) => addEntry(loader, args, context, true),
    source,
    ".": source,
    configfile: ([path = ""], context) => openMenu(loader, path, context),
    normal: ([path], context) => {
      const { environment } = context.interpreter;
      return openMenu(loader, path ?? `${environment.get("prefix")}/grub.cfg`, context);
    },
  };
}

function addEntry(
  loader: Loader,
  args: readonly string[],
  { at, block }: CallContext,
  submenu: boolean,
): boolean {
  const what = submenu ? "submenu" : "menuentry";
  if (!block) throw new GrubError(at, `a ${what} without { }`);
  const positional: string[] = [];
  let id: string | undefined;
  for (let i = 0; i < args.length; i++) {
    const arg = args[i]!;
    const [, name = arg, value] = /^(--\w+)=(.*)$/s.exec(arg) ?? [];
    if (valued.includes(name)) {
      const given = value ?? args[++i];
      if (name === "--id") id = given;
    } else if (/^--\w/.test(name) && name !== "--unrestricted") {
      throw new GrubError(at, `chv does not know ${what} ${name}`);
    } else if (name !== "--unrestricted") positional.push(arg);
  }
  const [title, ...rest] = positional;
  if (title === undefined) throw new GrubError(at, `a ${what} without a title`);
  loader.menu.add({ title, id: id ?? title, at, submenu, body: block, args: rest });
  return true;
}

/** Runs another file as if its text stood here. */
function readFile(loader: Loader, path: string, { interpreter, at }: CallContext): boolean {
  const file = loader.locate(path, at);
  const text = file && loader.readText(file, at);
  if (text === undefined) {
    loader.missed(at, `no ${path}${file ? ` on ${file.volume.shown}` : ""}`);
    return false;
  }
  return interpreter.source(text, file!.path);
}

/** Another file's menu in place of this one: nothing behind it counts when it is there. */
function openMenu(loader: Loader, path: string, context: CallContext): boolean {
  const { interpreter } = context;
  const { environment } = interpreter;
  const file = loader.locate(path, context.at);
  if (!file?.volume.readable?.stat(file.path)) {
    loader.missed(context.at, `no ${path}${file ? ` on ${file.volume.shown}` : ""}`);
    return false;
  }
  environment.enter();
  loader.menu = new Menu();
  environment.set("config_file", `(${file.volume.device})${file.path}`);
  environment.set(
    "config_directory",
    `(${file.volume.device})${file.path.replace(/\/[^/]*$/, "")}`,
  );
  const succeeded = readFile(loader, path, context);
  if (interpreter.flow === "next") interpreter.flow = "exit";
  return succeeded;
}
