/** What each message of a front end does (vhost-user, "Front-end message types"). */
import { BadMessage, Refusal } from "./errors.ts";
import { InflightArea } from "./inflight.ts";
import { memoryHandlers } from "./memory-handlers.ts";
import { maxRegions } from "./memory-table.ts";
import {
  bytesOf,
  type Handler,
  type Handlers,
  number,
  numberOf,
  payloadOf,
  type Session,
} from "./payload.ts";
import {
  ConfigSpace,
  Inflight,
  maxConfigBytes,
  ProtocolFeature,
  protocolFeaturesBit,
  Request,
} from "./protocol.ts";
import { ringHandlers } from "./ring-handlers.ts";

/** Payloads of 20 bytes are the same without the padding at their end. */
const inflightBytes = 20;

const bits = (...numbers: readonly number[]) =>
  numbers.reduce((sum, bit) => sum | (1n << BigInt(bit)), 0n);
const protocolFlag = bits(protocolFeaturesBit);

/** The protocol features that a device has. */
function protocolFeatures({ device }: Session): bigint {
  const { MQ, REPLY_ACK, BACKEND_REQ, CONFIG } = ProtocolFeature;
  const { INFLIGHT_SHMFD, RESET_DEVICE, CONFIGURE_MEM_SLOTS } = ProtocolFeature;
  const tracked = device.model.tracksInFlight ? bits(INFLIGHT_SHMFD) : 0n;
  return bits(MQ, REPLY_ACK, BACKEND_REQ, CONFIG, RESET_DEVICE, CONFIGURE_MEM_SLOTS) | tracked;
}

/** A request without a payload that is answered with a number. */
const asks =
  (value: (session: Session) => bigint): Handler =>
  (session, done) => {
    payloadOf(session, 0);
    done({ payload: number(value(session)) });
  };

export const handlers: Handlers = {
  [Request.GET_FEATURES]: asks(({ device }) => device.model.features | protocolFlag),

  [Request.SET_FEATURES]: (session, done) => {
    const { device } = session;
    const chosen = numberOf(session);
    if ((chosen & ~(device.model.features | protocolFlag)) !== 0n) {
      throw new Refusal(`features 0x${chosen.toString(16)}`);
    }
    session.halt(() => {
      // without protocol features there is no SET_VRING_ENABLE
      if ((chosen & protocolFlag) === 0n) for (const ring of device.rings) ring.enabled = true;
      device.features = chosen & ~protocolFlag;
      device.resume();
      done();
    });
  },

  [Request.GET_PROTOCOL_FEATURES]: asks(protocolFeatures),

  [Request.SET_PROTOCOL_FEATURES]: (session, done) => {
    const chosen = numberOf(session);
    if ((chosen & ~protocolFeatures(session)) !== 0n) {
      throw new Refusal(`protocol features 0x${chosen.toString(16)}`);
    }
    session.protocolFeatures = chosen;
    done();
  },

  [Request.SET_OWNER]: (session, done) => {
    payloadOf(session, 0);
    done();
  },

  [Request.RESET_OWNER]: (session, done) => {
    payloadOf(session, 0);
    session.halt(() => {
      for (const ring of session.device.rings) ring.enabled = false;
      done();
    });
  },

  [Request.RESET_DEVICE]: (session, done) => {
    payloadOf(session, 0);
    session.halt(() => {
      for (const ring of session.device.rings) ring.enabled = false;
      session.device.reset();
      done();
    });
  },

  [Request.GET_QUEUE_NUM]: asks(({ device }) => BigInt(device.model.queueCount)),

  [Request.SET_BACKEND_REQ_FD]: (session, done) => {
    payloadOf(session, 0);
    session.backendChannel.set(session.channel.takeFd());
    done();
  },

  [Request.GET_CONFIG]: (session, done) => {
    const { space, bytes } = configOf(session);
    const { offset, size } = space;
    if (offset + size > maxConfigBytes) return done({ payload: new Uint8Array() });
    const { config } = session.device.parts;
    bytes.fill(0);
    bytes.set(config.subarray(offset, offset + size));
    done({ payload: bytesOf(session.channel.payload) });
  },

  [Request.SET_CONFIG]: (session, done) => {
    const { space, bytes } = configOf(session);
    const { offset, size, flags } = space;
    const { model, parts } = session.device;
    for (let i = offset; i < offset + size; i++) {
      if (flags !== 0 || model.writable[i] !== 1) throw new Refusal("a read-only configuration");
    }
    parts.config.set(bytes, offset);
    done();
  },

  [Request.GET_INFLIGHT_FD]: (session, done) => {
    const payload = payloadOf(session, inflightBytes, Inflight.size);
    const wanted = new Inflight(payload);
    const { num_queues: queues, queue_size: queueSize } = wanted;
    if (queues > session.device.model.queues) throw new Refusal(`${queues} queues in flight`);
    const area = InflightArea.create(queues, queueSize);
    wanted.mmap_size = area.shape.bytes;
    wanted.mmap_offset = 0;
    done({ payload: bytesOf(payload), fds: [area.fd], sent: () => area.close() });
  },

  [Request.SET_INFLIGHT_FD]: (session, done) => {
    const { device, channel } = session;
    const shape = new Inflight(payloadOf(session, inflightBytes, Inflight.size));
    const { mmap_size: bytes, mmap_offset: offset } = shape;
    const { num_queues: queues, queue_size: queueSize } = shape;
    session.halt(() => {
      const area = InflightArea.open({ bytes, offset, queues, queueSize }, channel.takeFd());
      device.setInflight(area);
      device.resume();
      done();
    });
  },

  [Request.GET_MAX_MEM_SLOTS]: asks(() => BigInt(maxRegions)),

  ...memoryHandlers,
  ...ringHandlers,
};

function configOf(session: Session): {
  space: InstanceType<typeof ConfigSpace>;
  bytes: Uint8Array;
} {
  const payload = payloadOf(session, ConfigSpace.size, ConfigSpace.size + maxConfigBytes);
  const space = new ConfigSpace(payload);
  const bytes = bytesOf(payload).subarray(ConfigSpace.size);
  if (space.size !== bytes.length) throw new BadMessage("a configuration's size");
  return { space, bytes };
}
