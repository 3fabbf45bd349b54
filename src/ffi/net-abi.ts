/** Network interfaces and taps as the kernel declares them: linux/if.h, sockios.h, if_arp.h, if_tun.h. */
import { io, ior, iow } from "./ioctl.ts";
import { bytes, i32, struct, u16 } from "./struct.ts";

const int = { size: 4 };

/** IFNAMSIZ: a name and its NUL. */
export const IFNAMSIZ = 16;
export const IFF_UP = 1;
export const ARPHRD_ETHER = 1;

/** struct ifreq, by the member of its union that a call uses. The union begins at a multiple of 8. */
const ifreq = <const F extends Parameters<typeof struct>[2]>(fields: F) =>
  struct("ifreq", 40, { ifr_name: bytes(IFNAMSIZ), ...fields }, { align: 8 });
export const IfreqFlags = ifreq({ ifr_flags: u16, rest: bytes(22) });
export const IfreqMtu = ifreq({ ifr_mtu: i32, rest: bytes(20) });
/** A struct sockaddr: a family of 16 bits, and 14 bytes more. */
export const IfreqAddress = ifreq({ ifr_addr: bytes(16), rest: bytes(8) });

export const SIOCGIFFLAGS = io("SIOCGIFFLAGS", 0x89, 0x13);
export const SIOCSIFFLAGS = io("SIOCSIFFLAGS", 0x89, 0x14);
export const SIOCSIFADDR = io("SIOCSIFADDR", 0x89, 0x16);
export const SIOCSIFNETMASK = io("SIOCSIFNETMASK", 0x89, 0x1c);
export const SIOCGIFMTU = io("SIOCGIFMTU", 0x89, 0x21);
export const SIOCSIFMTU = io("SIOCSIFMTU", 0x89, 0x22);
export const SIOCSIFHWADDR = io("SIOCSIFHWADDR", 0x89, 0x24);
export const SIOCGIFHWADDR = io("SIOCGIFHWADDR", 0x89, 0x27);

export const TUNSETIFF = iow("TUNSETIFF", 0x54, 202, int);
export const TUNSETOFFLOAD = iow("TUNSETOFFLOAD", 0x54, 208, int);
export const TUNGETIFF = ior("TUNGETIFF", 0x54, 210, int);
export const TUNSETVNETHDRSZ = iow("TUNSETVNETHDRSZ", 0x54, 216, int);
export const TUNSETQUEUE = iow("TUNSETQUEUE", 0x54, 217, int);
export const TUNSETVNETLE = iow("TUNSETVNETLE", 0x54, 220, int);

export const IFF_TAP = 2;
export const IFF_MULTI_QUEUE = 0x100;
export const IFF_ATTACH_QUEUE = 0x200;
export const IFF_DETACH_QUEUE = 0x400;
export const IFF_NO_PI = 0x1000;
export const IFF_VNET_HDR = 0x4000;

/** What the reader of a tap can take (TUNSETOFFLOAD). */
export const TUN_F_CSUM = 1;
export const TUN_F_TSO4 = 2;
export const TUN_F_TSO6 = 4;
export const TUN_F_TSO_ECN = 8;
export const TUN_F_UFO = 16;
