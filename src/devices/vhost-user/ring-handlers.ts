/** The messages about one queue. */
import { isEventfd } from "../../ffi/eventfd.ts";
import { setNonBlocking } from "../../ffi/file.ts";
import { maxQueueSize } from "../virtio/registers.ts";
import { BadMessage, Refusal } from "./errors.ts";
import { bytesOf, type Handlers, numberOf, payloadOf, type Session } from "./payload.ts";
import {
  Request,
  VringAddr,
  VringState,
  vringIndexMask,
  vringLogFlag,
  vringNoFd,
} from "./protocol.ts";
import { type Ring, RingFd } from "./ring.ts";

export const ringHandlers: Handlers = {
  [Request.SET_VRING_NUM]: (session, done) => {
    const { ring, num } = stateOf(session);
    if (num < 1 || num > maxQueueSize || (num & (num - 1)) !== 0) {
      throw new Refusal(`a queue of ${num} entries`);
    }
    resting(ring).size = num;
    done();
  },

  [Request.SET_VRING_BASE]: (session, done) => {
    const { ring, num } = stateOf(session);
    if (num > 0xffff) throw new Refusal(`an avail index of ${num}`);
    resting(ring).base = num;
    done();
  },

  [Request.SET_VRING_ADDR]: (session, done) => {
    const address = new VringAddr(payloadOf(session, VringAddr.size));
    const ring = ringAt(session, address.index);
    if ((address.flags & vringLogFlag) !== 0) throw new Refusal("a log of the used ring");
    const { desc_user_addr: desc, avail_user_addr: avail, used_user_addr: used } = address;
    for (const part of [desc, avail, used]) {
      if (session.device.memory.guestAddress(part) < 0)
        throw new Refusal("a ring outside of memory");
    }
    if (!ring.isAt(desc, avail, used)) resting(ring).place(desc, avail, used);
    done();
  },

  [Request.GET_VRING_BASE]: (session, done) => {
    const payload = payloadOf(session, VringState.size);
    const { ring } = stateOf(session);
    ring.started = false;
    session.rest(ring, () => {
      ring.setFd(RingFd.kick, -1);
      new VringState(payload).num = ring.base;
      done({ payload: bytesOf(payload) });
    });
  },

  [Request.SET_VRING_KICK]: (session, done) => {
    const { ring, fd } = descriptorOf(session);
    if (fd < 0) throw new Refusal("a queue that is to be polled");
    const { device } = session;
    device.setKick(ring, fd);
    ring.started = true;
    try {
      device.resume();
    } catch (error) {
      ring.started = false;
      throw error;
    }
    done();
  },

  [Request.SET_VRING_CALL]: (session, done) => {
    const { ring, fd } = descriptorOf(session);
    ring.setFd(RingFd.call, fd);
    // what was called with the former descriptor may not have been heard
    if (ring.queue) ring.signal(RingFd.call);
    done();
  },

  [Request.SET_VRING_ERR]: (session, done) => {
    const { ring, fd } = descriptorOf(session);
    ring.setFd(RingFd.error, fd);
    done();
  },

  [Request.SET_VRING_ENABLE]: (session, done) => {
    const { ring, num } = stateOf(session);
    if (num > 1) throw new Refusal(`SET_VRING_ENABLE ${num}`);
    ring.enabled = num === 1;
    if (num === 0) return session.rest(ring, done);
    session.device.resume();
    done();
  },
};

function ringAt({ device }: Session, index: number): Ring {
  const ring = device.rings[index];
  if (!ring) throw new BadMessage(`queue ${index} of ${device.rings.length}`);
  return ring;
}

function stateOf(session: Session): { ring: Ring; num: number } {
  const { index, num } = new VringState(payloadOf(session, VringState.size));
  return { ring: ringAt(session, index), num };
}

/** The ring, which must not be worked while this changes. */
function resting(ring: Ring): Ring {
  if (ring.queue) throw new Refusal(`queue ${ring.index} is running`);
  return ring;
}

/**
 * The queue that a descriptor is for; -1 where none comes. An eventfd is left as it is, for the front end may wait on
 * it; a pipe (vhost-user, "Support for platforms other than Linux") may be full.
 */
function descriptorOf(session: Session): { ring: Ring; fd: number } {
  const word = Number(numberOf(session));
  if (word >= 2 * vringNoFd) throw new BadMessage(`queue 0x${word.toString(16)}`);
  const ring = ringAt(session, word & vringIndexMask);
  if (word & vringNoFd) return { ring, fd: -1 };
  if (session.channel.fdCount !== 1) throw new BadMessage("not one descriptor");
  const fd = session.channel.fdAt(0);
  if (!isEventfd(fd)) setNonBlocking(fd);
  return { ring, fd: session.channel.takeFd() };
}
