/** Settings of a network interface (netdevice(7)): up, MTU, MAC, IPv4 address. All of them throw SystemError. */
import { allocate, type Block } from "./block.ts";
import { close } from "./file.ts";
import { ioctl, type Request } from "./ioctl.ts";
import { check } from "./libc.ts";
import { socketLibc } from "./libc-late.ts";
import {
  ARPHRD_ETHER,
  IFF_UP,
  IfreqAddress,
  IfreqFlags,
  IfreqMtu,
  SIOCGIFFLAGS,
  SIOCGIFHWADDR,
  SIOCGIFMTU,
  SIOCSIFADDR,
  SIOCSIFFLAGS,
  SIOCSIFHWADDR,
  SIOCSIFMTU,
  SIOCSIFNETMASK,
} from "./net-abi.ts";
import { interfaceName } from "./tap.ts";

const AF_INET = 2;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
const macBytes = 6;

/** Any socket will do: it says which network namespace. */
function request(argument: Block, ...calls: readonly Request[]): void {
  const socket = check(socketLibc().socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket");
  try {
    for (const call of calls) ioctl(socket, call, argument);
  } finally {
    close(socket);
  }
}

function flagsOf(name: string) {
  const argument = allocate(IfreqFlags);
  argument.fields.ifr_name = interfaceName(name);
  request(argument, SIOCGIFFLAGS);
  return argument;
}

export const isUp = (name: string): boolean => (flagsOf(name).fields.ifr_flags & IFF_UP) !== 0;

export function bringUp(name: string): void {
  const argument = flagsOf(name);
  argument.fields.ifr_flags |= IFF_UP;
  request(argument, SIOCSIFFLAGS);
}

/** Bytes of the longest packet, without the Ethernet header. */
export function mtuOf(name: string): number {
  const argument = allocate(IfreqMtu);
  argument.fields.ifr_name = interfaceName(name);
  request(argument, SIOCGIFMTU);
  return argument.fields.ifr_mtu;
}

export function setMtu(name: string, mtu: number): void {
  const argument = allocate(IfreqMtu);
  argument.fields.ifr_name = interfaceName(name);
  argument.fields.ifr_mtu = mtu;
  request(argument, SIOCSIFMTU);
}

export function macOf(name: string): Uint8Array {
  const argument = allocate(IfreqAddress);
  argument.fields.ifr_name = interfaceName(name);
  request(argument, SIOCGIFHWADDR);
  return argument.fields.ifr_addr.slice(2, 2 + macBytes);
}

export function setMac(name: string, mac: Uint8Array): void {
  const argument = allocate(IfreqAddress);
  argument.fields.ifr_name = interfaceName(name);
  argument.fields.ifr_addr = Uint8Array.of(ARPHRD_ETHER, 0, ...mac);
  request(argument, SIOCSIFHWADDR);
}

/** Four bytes each. */
export function setIpv4(name: string, address: Uint8Array, mask: Uint8Array): void {
  for (const [call, value] of [
    [SIOCSIFADDR, address],
    [SIOCSIFNETMASK, mask],
  ] as const) {
    const argument = allocate(IfreqAddress);
    argument.fields.ifr_name = interfaceName(name);
    // struct sockaddr_in: family, port, address
    argument.fields.ifr_addr = Uint8Array.of(AF_INET, 0, 0, 0, ...value);
    request(argument, call);
  }
}
