/**
 * Offloads of what a guest receives: feature bits of virtio, and what they are to a tap (virtio 1.2 section 5.1.6.3).
 */
import { TUN_F_CSUM, TUN_F_TSO_ECN, TUN_F_TSO4, TUN_F_TSO6, TUN_F_UFO } from "../../ffi/net-abi.ts";
import { NetFeature } from "./net-config.ts";

const F = NetFeature;
const bit = (feature: number) => 1 << feature;
const segmented = bit(F.GUEST_TSO4) | bit(F.GUEST_TSO6) | bit(F.GUEST_UFO);

/** The bits that a driver can switch. */
export const guestOffloads = bit(F.GUEST_CSUM) | bit(F.GUEST_ECN) | segmented;

const ethernetMtu = 1500;

/** TUN_F_ bits; none without checksums, which all others need, and no ECN without TCP's segments, which it is of. */
export function tapOffloads(bits: number): number {
  const has = (feature: number, flag: number) => ((bits & bit(feature)) !== 0 ? flag : 0);
  if ((bits & bit(F.GUEST_CSUM)) === 0) return 0;
  const tcp = (bits & (bit(F.GUEST_TSO4) | bit(F.GUEST_TSO6))) !== 0;
  return (
    TUN_F_CSUM |
    has(F.GUEST_TSO4, TUN_F_TSO4) |
    has(F.GUEST_TSO6, TUN_F_TSO6) |
    (tcp ? has(F.GUEST_ECN, TUN_F_TSO_ECN) : 0) |
    has(F.GUEST_UFO, TUN_F_UFO)
  );
}

/** Bytes of the longest packet to expect; `mtu` is 0 where none was set. */
export function longestPacket(bits: number, mtu: number): number {
  if ((bits & segmented) !== 0) return 2 ** 16;
  return mtu > 0 ? mtu : ethernetMtu;
}
