/**
 * One front end's session: its messages, in order, each answered before the next is looked at (vhost-user, "Front-end
 * message types"). The front end is not trusted: whatever it sends costs it the connection at worst.
 */
import { Epoll } from "../../ffi/epoll.ts";
import { SystemError } from "../../ffi/libc.ts";
import { GuestFault } from "../virtio/guest-fault.ts";
import { BackendChannel } from "./backend-channel.ts";
import { Channel } from "./channel.ts";
import type { VhostUserDevice } from "./device.ts";
import { BadMessage, Refusal } from "./errors.ts";
import { handlers } from "./handlers.ts";
import { type Answer, type Handler, number, type Session } from "./payload.ts";
import { needReplyFlag, ProtocolFeature } from "./protocol.ts";
import type { Ring } from "./ring.ts";

/** Flags of a session. */
const [ended, waiting] = [0, 1];

export class FrontEndSession implements Session {
  readonly channel: Channel;
  readonly backendChannel = new BackendChannel();
  private readonly flags = new Uint8Array(2);
  private readonly chosen = new BigUint64Array(1);

  /** The session takes over the socket; `over` is called when the device has no front end any more. */
  constructor(
    fd: number,
    readonly device: VhostUserDevice,
    readonly over: () => void,
  ) {
    this.channel = new Channel(fd);
    device.onConfigChanged(() => this.configChanged());
    this.listen();
  }

  get protocolFeatures(): bigint {
    return this.chosen[0]!;
  }
  set protocolFeatures(bits: bigint) {
    this.chosen[0] = bits;
  }

  hasProtocol(bit: number): boolean {
    return ((this.protocolFeatures >> BigInt(bit)) & 1n) === 1n;
  }

  halt(then: () => void): void {
    this.device.halt(() => this.attempt(then));
  }
  rest(ring: Ring, then: () => void): void {
    this.device.rest(ring, () => this.attempt(then));
  }

  /** Ends the session: requests in flight end, then the front end's memory and descriptors are let go. */
  end(): void {
    if (this.flags[ended] === 1) return;
    this.flags[ended] = 1;
    if (this.flags[waiting] === 0) this.device.home.unwatch(this.channel.fd);
    this.device.onConfigChanged(undefined);
    this.channel.close();
    this.backendChannel.close();
    this.device.halt(() => {
      this.device.forget();
      this.over();
    });
  }

  private listen(): void {
    this.device.home.watch(this.channel.fd, Epoll.in, () => this.readable());
  }

  /** Messages are read until one must wait for requests in flight: what comes behind it waits in the socket. */
  private readable(): void {
    try {
      while (this.flags[ended] === 0 && this.flags[waiting] === 0) {
        const state = this.channel.read();
        if (state === "message") this.handle();
        else if (state === "gone") this.end();
        else return;
      }
    } catch (error) {
      this.fail(error);
    }
  }

  private handle(): void {
    const { channel, flags } = this;
    const handler: Handler | undefined = handlers[channel.request];
    if (!handler) throw new BadMessage(`unknown request ${channel.request}`);
    flags[waiting] = 1;
    this.device.home.unwatch(channel.fd);
    this.attempt(() => handler(this, (answer) => this.answer(answer)));
  }

  /** Runs a part of a message's handling; what cannot be done is answered so. */
  private attempt(part: () => void): void {
    if (this.flags[ended] === 1) return;
    try {
      part();
    } catch (error) {
      const refused =
        error instanceof Refusal || error instanceof GuestFault || error instanceof SystemError;
      if (refused && this.acknowledges) {
        this.device.warn(`request ${this.channel.request} refused: ${error.message}`);
        this.send(number(1n));
        this.goOn();
      } else {
        this.fail(error);
      }
    }
  }

  private answer(answer: Answer | undefined): void {
    if (answer) {
      this.send(answer.payload, answer.fds);
      answer.sent?.();
    } else if (this.acknowledges) {
      this.send(number(0n));
    }
    this.goOn();
  }

  private goOn(): void {
    const { flags } = this;
    this.channel.closeFds();
    if (flags[ended] === 1) return;
    flags[waiting] = 0;
    this.listen();
  }

  private get acknowledges(): boolean {
    const asked = (this.channel.flags & needReplyFlag) !== 0;
    return asked && this.hasProtocol(ProtocolFeature.REPLY_ACK);
  }

  private send(payload: Uint8Array, fds?: readonly number[]): void {
    if (!this.channel.reply(payload, fds)) this.end();
  }

  private fail(error: unknown): void {
    const theirs =
      error instanceof BadMessage ||
      error instanceof Refusal ||
      error instanceof GuestFault ||
      error instanceof SystemError;
    if (!theirs) throw error;
    this.device.warn(`the front end is disconnected: ${error.message}`);
    this.end();
  }

  private configChanged(): void {
    const { BACKEND_REQ, CONFIG } = ProtocolFeature;
    if (this.hasProtocol(BACKEND_REQ) && this.hasProtocol(CONFIG)) {
      this.backendChannel.configChanged();
    }
  }
}
