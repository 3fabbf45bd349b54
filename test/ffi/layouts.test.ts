/**
 * Every struct, request code and constant of src/ffi against the kernel's and the C library's own headers: a C program
 * is generated from the names alone, and the numbers that it prints come from the compiler.
 */
import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Glob } from "bun";
import { Open } from "../../src/ffi/file.ts";
import * as status from "../../src/ffi/file-status.ts";
import * as uring from "../../src/ffi/io-uring-abi.ts";
import type { Request } from "../../src/ffi/ioctl.ts";
import * as abi from "../../src/ffi/kvm-abi.ts";
import { Madvise, MapFlag, Prot } from "../../src/ffi/memory.ts";
import * as net from "../../src/ffi/net-abi.ts";
import type { Fields, StructType } from "../../src/ffi/struct.ts";
import * as vhost from "../../src/ffi/vhost-abi.ts";

const headers = [
  ...["stddef", "stdio", "fcntl", "poll", "signal", "termios", "time", "unistd"],
  ...[
    "sys/epoll",
    "sys/eventfd",
    "sys/ioctl",
    "sys/mman",
    "sys/prctl",
    "sys/socket",
    "sys/stat",
    "sys/syscall",
  ],
  ...["sys/timerfd", "sys/un", "linux/kvm"],
  ...["sys/uio", "linux/falloc", "linux/fs", "linux/io_uring"],
  ...["linux/if", "linux/if_arp", "linux/if_tun", "linux/sockios", "linux/vhost"],
];

/** C expressions, each with what our sources say it is. */
const claims = new Map<string, number>();

/** Fields of a layout that stand for a C member of another name; `undefined` for those that no C member is. */
const members: Record<string, string | undefined> = {
  "kvm_run.exit": "io",
  "kvm_irq_routing_entry.address_lo": "u.msi.address_lo",
  "kvm_irq_routing_entry.address_hi": "u.msi.address_hi",
  "kvm_irq_routing_entry.data": "u.msi.data",
  "kvm_irq_routing_entry.devid": "u.msi.devid",
  "kvm_irq_routing_entry.unused": undefined,
  "kvm_fpu.bytes": undefined,
  "kvm_vcpu_events.bytes": undefined,
  "kvm_debugregs.bytes": undefined,
  "kvm_xcrs.bytes": undefined,
  "ifreq.rest": undefined,
  "stat.times": undefined,
};
/** Fields that hold more than the one C member that begins there: a union's room, or several members. */
const wider = ["kvm_run.exit"];

/** "kvm_run.io" is the member `io` of the union in struct kvm_run. */
function claimStruct({ structName, size, align, offsets, fields }: StructType<Fields>): void {
  const [outer, inner] = structName.split(".");
  const object = `((struct ${outer} *)0)${inner ? `->${inner}` : "[0]"}`;
  const base = inner ? `offsetof(struct ${outer}, ${inner})` : "0";
  claims.set(`sizeof(${object})`, size);
  claims.set(`__alignof__(${object})`, align);
  for (const name of Object.keys(fields)) {
    const key = `${structName}.${name}`;
    const member = key in members ? members[key] : name;
    if (member === undefined) continue;
    const path = inner ? `${inner}.${member}` : member;
    claims.set(`offsetof(struct ${outer}, ${path}) - ${base}`, offsets[name]!);
    if (!wider.includes(key)) claims.set(`sizeof(${object}.${member})`, fields[name]!.size);
  }
}

const modules = [abi, uring, net, vhost, { Stat: status.Stat }];
const structs = modules
  .flatMap((module): unknown[] => Object.values(module))
  .filter((value): value is StructType<Fields> => typeof value === "function");
for (const type of structs) claimStruct(type);
const isRequest = (value: unknown): value is Request =>
  typeof value === "object" && value !== null && "code" in value && "name" in value;
for (const [name, value] of [abi, net, vhost].flatMap((module) =>
  Object.entries<unknown>(module as Record<string, unknown>),
)) {
  if (typeof value === "number" || typeof value === "bigint") claims.set(name, Number(value));
  else if (isRequest(value)) claims.set(name, value.code);
}
for (const table of [abi.ExitReason, abi.Cap]) {
  for (const [name, value] of Object.entries(table)) claims.set(name, value);
}
claims.set("KVM_MP_STATE_RUNNABLE", abi.MpState.runnable);
claims.set("KVM_MP_STATE_UNINITIALIZED", abi.MpState.uninitialized);

for (const [name, value] of Object.entries(Prot)) {
  claims.set(name === "execute" ? "PROT_EXEC" : `PROT_${name.toUpperCase()}`, value);
}
for (const [name, value] of Object.entries(MapFlag)) {
  claims.set(`MAP_${name.toUpperCase()}`, value);
}
for (const [name, value] of Object.entries(Madvise)) {
  claims.set(`MADV_${name === "populateWrite" ? "POPULATE_WRITE" : name.toUpperCase()}`, value);
}
const openFlags: Record<keyof typeof Open, string> = {
  ...{ readOnly: "O_RDONLY", writeOnly: "O_WRONLY", readWrite: "O_RDWR", create: "O_CREAT" },
  ...{ exclusive: "O_EXCL", noControllingTerminal: "O_NOCTTY", truncate: "O_TRUNC" },
  ...{ append: "O_APPEND", nonBlock: "O_NONBLOCK", directory: "O_DIRECTORY" },
  ...{ cloexec: "O_CLOEXEC", temporary: "O_TMPFILE" },
};
for (const [name, value] of Object.entries(Open)) {
  claims.set(openFlags[name as keyof typeof Open], value);
}

/** Numbers that a file keeps to itself: in capitals they bear their C names, the others are told here. */
const spelled: Record<string, string> = {
  eventSize: "sizeof(struct epoll_event)",
  termiosBytes: "sizeof(struct termios)",
  outputFlagsOffset: "offsetof(struct termios, c_oflag)",
  sigsetSize: "sizeof(sigset_t)",
  pathBytes: "sizeof(((struct sockaddr_un *)0)->sun_path)",
};
const ours = ["KVMIO"];
const folder = join(import.meta.dir, "../../src/ffi");
const literal = "(?:0o[0-7]+|0x[0-9a-f_]+|[0-9]+)";
for (const file of new Glob("*.ts").scanSync(folder)) {
  const source = readFileSync(join(folder, file), "utf8");
  const found: [string, string][] = [];
  for (const [, name, value] of source.matchAll(
    new RegExp(`^(?:export )?const (\\w+) = (${literal});`, "gm"),
  )) {
    found.push([name!, value!]);
  }
  for (const [, names, values] of source.matchAll(/^const \[([\w, ]+)\] = \[([\w, ]+)\];/gm)) {
    const parts = values!.split(", ");
    for (const [i, name] of names!.split(", ").entries()) found.push([name, parts[i]!]);
  }
  for (const [name, value] of found) {
    const expression = /^[A-Z_0-9a]+$|^SYS_\w+$/.test(name) ? name : spelled[name];
    if (expression !== undefined && !ours.includes(name)) claims.set(expression, Number(value));
  }
}
// what epoll's table, poll's request, timers, addresses and times are laid out as, in numbers within the code
const epoll = { EPOLLIN: 1, EPOLLOUT: 4, EPOLLERR: 8, EPOLLHUP: 16, EPOLLRDHUP: 0x2000 };
for (const [name, value] of Object.entries({
  ...epoll,
  POLLIN: epoll.EPOLLIN,
  POLLHUP: epoll.EPOLLHUP,
  "offsetof(struct epoll_event, data)": 4,
  "sizeof(struct pollfd)": 8,
  "offsetof(struct pollfd, events)": 4,
  "offsetof(struct pollfd, revents)": 6,
  "sizeof(struct itimerspec)": 32,
  "offsetof(struct itimerspec, it_value.tv_sec)": 16,
  "offsetof(struct itimerspec, it_value.tv_nsec)": 24,
  "sizeof(struct timespec)": 16,
  "offsetof(struct timespec, tv_nsec)": 8,
  "offsetof(struct sockaddr_un, sun_path)": 2,
  "sizeof(sa_family_t)": 2,
  "_NSIG / 8": 8,
})) {
  claims.set(name, value);
}

const work = mkdtempSync(join(tmpdir(), "chv-layouts-"));
afterAll(() => rmSync(work, { recursive: true }));

/** What Debian 12's headers do not have yet: linux/kvm.h of 6.8. */
const newer = ["#ifndef KVM_EXIT_MEMORY_FAULT", "#define KVM_EXIT_MEMORY_FAULT 39", "#endif"];

/** The C compiler's numbers for a list of expressions. */
function compile(expressions: readonly string[]): number[] {
  const lines = expressions.map((text) => `  printf("%lld\\n", (long long)(${text}));`);
  const includes = headers.map((name) => `#include <${name}.h>`);
  const start = ["#define _GNU_SOURCE", ...includes, ...newer, "int main(void) {"];
  const program = [...start, ...lines, "}"].join("\n");
  const [source, binary] = [join(work, "layouts.c"), join(work, "layouts")];
  writeFileSync(source, program);
  const built = Bun.spawnSync(["gcc", "-w", "-O0", "-o", binary, source]);
  expect(built.stderr.toString()).toBe("");
  const output = Bun.spawnSync([binary]).stdout.toString().trim();
  return output.split("\n").map(Number);
}

test("structs, requests and constants are the headers'", () => {
  const expressions = [...claims.keys()];

  const numbers = compile(expressions);

  const headersSay = Object.fromEntries(expressions.map((name, i) => [name, numbers[i]]));
  expect(Object.fromEntries(claims)).toEqual(headersSay as Record<string, number>);
  expect(structs.length).toBeGreaterThan(25);
  for (const name of ["EFD_CLOEXEC", "TFD_NONBLOCK", "MFD_HUGETLB", "SYS_tgkill", "OPOST"]) {
    expect(claims.has(name)).toBe(true);
  }
});

test("the kick is a signal that is never queued, and ignored where nobody has asked for it", () => {
  const source = readFileSync(join(folder, "signals.ts"), "utf8");
  const kick = Number(/const kickSignal = (\d+);/.exec(source)![1]);

  expect([kick]).toEqual(compile(["SIGURG"]));
});
