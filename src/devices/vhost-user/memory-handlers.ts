/** The messages about the front end's memory. A change waits until no request is in flight. */
import { BadMessage } from "./errors.ts";
import { MemoryTable, type Region } from "./memory-table.ts";
import { type Done, type Handlers, payloadOf, type Session } from "./payload.ts";
import { Memory, MemoryRegion, maxTableRegions, Request, SingleMemoryRegion } from "./protocol.ts";

export const memoryHandlers: Handlers = {
  [Request.SET_MEM_TABLE]: (session, done) => {
    const most = Memory.size + maxTableRegions * MemoryRegion.size;
    const payload = payloadOf(session, Memory.size, most);
    const { nregions: count } = new Memory(payload);
    if (payload.byteLength !== Memory.size + count * MemoryRegion.size) {
      throw new BadMessage(`${count} regions in ${payload.byteLength} bytes`);
    }
    if (session.channel.fdCount !== count)
      throw new BadMessage(`${count} regions, other descriptors`);
    const regions = Array.from({ length: count }, (_, i) =>
      regionAt(session, payload, Memory.size + i * MemoryRegion.size, i),
    );
    replace(session, regions, done);
  },

  [Request.ADD_MEM_REG]: (session, done) => {
    const payload = payloadOf(session, SingleMemoryRegion.size + MemoryRegion.size);
    if (session.channel.fdCount !== 1) throw new BadMessage("one region, other descriptors");
    const region = regionAt(session, payload, SingleMemoryRegion.size, 0);
    replace(session, session.device.memory.with(region), done);
  },

  [Request.REM_MEM_REG]: (session, done) => {
    const payload = payloadOf(session, SingleMemoryRegion.size + MemoryRegion.size);
    if (session.channel.fdCount > 1) throw new BadMessage("no region, but descriptors");
    session.channel.closeFds(); // some front ends send one
    const region = regionAt(session, payload, SingleMemoryRegion.size, 0);
    replace(session, session.device.memory.without(region), done);
  },
};

/** A row as the message has it; its descriptor, if there is one, is still the channel's. */
function regionAt({ channel }: Session, payload: DataView, at: number, index: number): Region {
  const row = new MemoryRegion(payload, at);
  return {
    ...{ guest: row.guest_phys_addr, size: row.memory_size, user: row.userspace_addr },
    ...{ offset: row.mmap_offset, fd: channel.fdAt(index) },
  };
}

function replace(session: Session, regions: readonly Region[], done: Done): void {
  const { device, channel } = session;
  MemoryTable.check(regions);
  session.halt(() => {
    channel.giveFds();
    device.memory.replace(regions);
    device.resume();
    done();
  });
}
