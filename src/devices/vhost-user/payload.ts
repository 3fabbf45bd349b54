/** Payloads of messages, and what a message's handler is. */
import type { BackendChannel } from "./backend-channel.ts";
import type { Channel } from "./channel.ts";
import type { VhostUserDevice } from "./device.ts";
import { BadMessage } from "./errors.ts";
import { U64 } from "./protocol.ts";
import type { Ring } from "./ring.ts";

/** What a handler may use of a front end's session. */
export interface Session {
  readonly channel: Channel;
  readonly backendChannel: BackendChannel;
  readonly device: VhostUserDevice;
  /** VHOST_USER_PROTOCOL_F_… bits that the front end chose. */
  protocolFeatures: bigint;
  hasProtocol(bit: number): boolean;
  /** Goes on when all rings rest, or one of them; a session that has ended does not. */
  halt(then: () => void): void;
  rest(ring: Ring, then: () => void): void;
}

/** What is sent back: bytes, and descriptors, which `sent` may close. */
export interface Answer {
  readonly payload: Uint8Array;
  readonly fds?: readonly number[];
  readonly sent?: () => void;
}
export type Done = (answer?: Answer) => void;
/** Checks all of a message before it changes anything; calls `done` when it has been carried out. */
export type Handler = (session: Session, done: Done) => void;
export type Handlers = Readonly<Record<number, Handler>>;

/** The payload of the message in hand, which must be so long. Throws BadMessage. */
export function payloadOf({ channel }: Session, least: number, most = least): DataView {
  const { request, size } = channel;
  if (size < least || size > most) throw new BadMessage(`request ${request} of ${size} bytes`);
  return channel.payload;
}

export const numberOf = (session: Session) => new U64(payloadOf(session, U64.size)).value;

/** A payload of one number. */
export function number(value: bigint): Uint8Array {
  const payload = new U64();
  payload.value = value;
  return new Uint8Array(payload.view.buffer);
}

/** The bytes that a view lies over. */
export const bytesOf = ({ buffer, byteOffset, byteLength }: DataView) =>
  new Uint8Array(buffer, byteOffset, byteLength);
