/**
 * The server of the API's socket, on a thread of its own: it alone touches the clients, so that neither a slow client
 * nor a busy main thread holds up another client's bytes. Whole requests go to the main thread, answers come back.
 */
import { monotonicNs } from "../../ffi/clock.ts";
import { Epoll, EpollSet } from "../../ffi/epoll.ts";
import { drainEventfd } from "../../ffi/eventfd.ts";
import { acceptUnix } from "../../ffi/unix-socket.ts";
import { type Arrived, Connection } from "./connection.ts";
import type { HttpResponse } from "./response.ts";

/** Clients that are served at once, and those beyond that are told so before they go. */
export const connectionsMax = 64;
const turnedAwayMax = 192;

/** How long clients may take to read their last answer. */
const partingNs = 1e9;

const [wakeToken, listenToken, firstToken] = [0, 1, 2];

/** What the main thread is told. A connection's number is never given twice. */
export interface Deliver {
  request(connection: number, arrived: Arrived): void;
  /** The client of a request that is being answered has gone. */
  gone(connection: number): void;
}

/** What the main thread says. */
export type Word =
  | { readonly kind: "answer"; readonly connection: number; readonly response: HttpResponse }
  | {
      readonly kind: "stream";
      readonly connection: number;
      readonly status: number;
      readonly headers: HttpResponse["headers"];
    }
  | { readonly kind: "piece"; readonly connection: number; readonly bytes: Uint8Array }
  | { readonly kind: "end"; readonly connection: number }
  /** Nothing sensible can follow what was sent. */
  | { readonly kind: "broken"; readonly connection: number }
  /** No further client; when what is to be said has been said, the thread ends. */
  | { readonly kind: "close" };

interface Client {
  readonly connection: Connection;
  /** The events that are waited for now. */
  events: number;
  /** Turned away: it is no client that is served. */
  readonly extra: boolean;
}

export class HttpServer {
  readonly #epoll = new EpollSet();
  readonly #clients = new Map<number, Client>();
  #next = firstToken;
  #served = 0;
  #closing = false;
  /** When closing: until then clients may read what they have not. */
  #partingNs = Number.POSITIVE_INFINITY;

  constructor(
    readonly listenFd: number,
    /** Becomes readable when `words` has something. */
    readonly wakeFd: number,
    /** What the main thread has said since the last time. */
    readonly words: () => Iterable<Word>,
    readonly deliver: Deliver,
  ) {
    this.#epoll.add(wakeFd, Epoll.in, wakeToken);
    this.#epoll.add(listenFd, Epoll.in, listenToken);
  }

  /** Serves until it is told to close. */
  run(): void {
    while (!this.#closing || this.#clients.size > 0) this.turn(this.#patienceMs());
    this.#epoll.close();
  }

  /** Waits at most `timeoutMs` and does what there is to do. */
  turn(timeoutMs: number): void {
    const count = this.#epoll.wait(timeoutMs);
    for (let i = 0; i < count; i++) {
      const token = this.#epoll.tokenAt(i);
      if (token === wakeToken) this.#hear();
      else if (token === listenToken) this.#accept();
      else this.#serve(token, this.#epoll.eventsAt(i));
    }
    const now = monotonicNs();
    for (const [token, { connection }] of this.#clients) {
      if (now < connection.expiresNs && now < this.#partingNs) continue;
      connection.expire(now);
      this.#settle(token);
    }
  }

  #patienceMs(): number {
    const now = monotonicNs();
    // what is late is answered by the main thread, which wakes this one
    let next = now < this.#partingNs ? this.#partingNs : Number.POSITIVE_INFINITY;
    for (const { connection } of this.#clients.values())
      next = Math.min(next, connection.expiresNs);
    if (next === Number.POSITIVE_INFINITY) return -1;
    return Math.max(0, Math.ceil((next - now) / 1e6));
  }

  #accept(): void {
    if (this.#closing) return;
    const fd = acceptUnix(this.listenFd);
    if (fd < 0) return;
    const extra = this.#served >= connectionsMax;
    const connection = new Connection(fd);
    if (extra && this.#clients.size >= connectionsMax + turnedAwayMax) {
      connection.turnAway();
      connection.close();
      return;
    }
    const token = this.#next++;
    if (!extra) this.#served++;
    this.#clients.set(token, { connection, events: Epoll.in, extra });
    this.#epoll.add(fd, Epoll.in, token);
    if (extra) connection.turnAway();
    this.#settle(token);
  }

  #serve(token: number, events: number): void {
    const connection = this.#clients.get(token)?.connection;
    if (!connection) return;
    if (events & Epoll.out) {
      connection.write();
      this.#deliver(token, connection.next(monotonicNs())); // it may have been held back
    }
    if (events & Epoll.in) this.#deliver(token, connection.read(monotonicNs()));
    else if (events & (Epoll.hangUp | Epoll.error)) connection.hangUp();
    this.#settle(token);
  }

  #deliver(token: number, arrived: Arrived | undefined): void {
    if (arrived) this.deliver.request(token, arrived);
  }

  #hear(): void {
    drainEventfd(this.wakeFd);
    for (const word of this.words()) {
      if (word.kind === "close") this.#close();
      else this.#say(word);
    }
  }

  #say(word: Exclude<Word, { kind: "close" }>): void {
    const connection = this.#clients.get(word.connection)?.connection;
    if (!connection) return; // it has gone meanwhile
    switch (word.kind) {
      case "answer":
        connection.answer(word.response);
        break;
      case "stream":
        connection.beginStream(word.status, word.headers);
        break;
      case "piece":
        connection.streamed(word.bytes);
        break;
      case "end":
        connection.endStream();
        break;
      case "broken":
        connection.hangUp();
    }
    // it may have sent its next request ahead
    this.#deliver(word.connection, connection.next(monotonicNs()));
    this.#settle(word.connection);
  }

  /** Idle clients are let go, those that wait for an answer get it. */
  #close(): void {
    this.#closing = true;
    this.#partingNs = monotonicNs() + partingNs;
    this.#epoll.remove(this.listenFd);
    for (const [token, { connection }] of this.#clients) {
      connection.finish();
      if (!connection.answering && !connection.wantsWrite) this.#drop(token);
    }
  }

  /** After something happened to a client: waits for what matters now, or lets it go. */
  #settle(token: number): void {
    const client = this.#clients.get(token);
    if (!client) return;
    const { connection } = client;
    const now = monotonicNs();
    const parts = this.#closing && (!connection.wantsWrite || now >= this.#partingNs);
    if (connection.over(now) || (parts && !connection.answering)) {
      this.#drop(token);
      return;
    }
    const events = (connection.wantsRead ? Epoll.in : 0) | (connection.wantsWrite ? Epoll.out : 0);
    if (events === client.events) return;
    client.events = events;
    this.#epoll.modify(connection.fd, events, token);
  }

  #drop(token: number): void {
    const client = this.#clients.get(token)!;
    this.#clients.delete(token);
    if (!client.extra) this.#served--;
    if (client.connection.answering) this.deliver.gone(token);
    this.#epoll.remove(client.connection.fd);
    client.connection.close();
  }
}
