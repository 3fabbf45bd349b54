/** A console device with several ports: its control queues (virtio 1.2 section 5.3.6.2), and whose data goes where. */
import { describe, expect, spyOn, test } from "bun:test";
import { ConsoleInput } from "../../../src/devices/virtio/console-queues.ts";
import { GuestFault } from "../../../src/devices/virtio/guest-fault.ts";
import { Virtqueue } from "../../../src/devices/virtio/queue.ts";
import { createEventfd, signalEventfd } from "../../../src/ffi/eventfd.ts";
import { bytesToRead } from "../../../src/ffi/file.ts";
import { listenUnix } from "../../../src/ffi/unix-socket.ts";
import { storeSize } from "../../../src/machine/console/size.ts";
import { close, connect, send, text } from "../../machine/console/far-end.ts";
import { type ConsoleRig, MULTIPORT, SIZE } from "./console-rig.ts";
import { cleanAfterEach, ends, inFolder, later, made } from "./console-tests.ts";
import { Driver } from "./driver.ts";

const [DEVICE_READY, PORT_ADD, PORT_READY, CONSOLE_PORT, RESIZE, PORT_OPEN, PORT_NAME] = [
  0, 1, 3, 4, 5, 6, 7,
];
const badId = 0xffff_ffff;
cleanAfterEach();

const port = (name: string, console = false) => ({ name, console });

/** A device whose ports are pipes both ways, with buffers for control messages. */
function piped(count: number, features = MULTIPORT) {
  const pipes = Array.from({ length: count }, () => ({ out: ends(), in: ends() }));
  const rig = made(
    pipes.map((both) => ({ mode: "tty", outFd: both.out.write, inFd: both.in.read }) as const),
    features,
    { ports: pipes.map((_, i) => port(`port.${i}`)) },
  );
  return { rig, pipes, fill: (buffers = 20) => fill(rig, buffers) };
}

const fill = (rig: ConsoleRig, buffers = 20) => {
  for (let i = 0; i < buffers; i++) rig.room(128, 2);
};

test("each port is added, then told its name, and that somebody is there", () => {
  const { rig, fill } = piped(3);
  fill();
  rig.control(badId, DEVICE_READY, 1);

  expect(rig.messages()).toEqual([
    [0, PORT_ADD, 1],
    [1, PORT_ADD, 1],
    [2, PORT_ADD, 1],
  ]);
  rig.control(1, PORT_READY, 1);
  expect(rig.messages()).toEqual([
    [1, PORT_NAME, 1, "port.1"],
    [1, PORT_OPEN, 1],
  ]);
  expect(rig.drivers[3]!.noNotify).toBe(false);
});

test("the configuration says how many ports there are, and each has two queues", () => {
  const { rig } = piped(8);

  expect(rig.drivers.length).toBe(18);
  expect(new DataView(rig.config.buffer).getUint32(4, true)).toBe(8); // max_nr_ports (section 5.3.4)
});

test("what there are no buffers for is said when there are", () => {
  const { rig } = piped(2);
  rig.control(badId, DEVICE_READY, 1);
  rig.control(0, PORT_READY, 1);
  expect(rig.messages()).toEqual([]);
  expect(rig.drivers[2]!.noNotify).toBe(false);

  const said = [];
  for (let i = 0; i < 5; i++) {
    rig.room(64, 2);
    said.push(...rig.messages());
  }
  expect(said).toEqual([
    [0, PORT_NAME, 1, "port.0"],
    [0, PORT_OPEN, 1],
    [1, PORT_ADD, 1],
  ]);
});

test("a driver that asks a thousand times is answered once", () => {
  const { rig, fill } = piped(1);
  for (let i = 0; i < 1000; i++) rig.control(0, i % 2 ? DEVICE_READY : PORT_READY, 1);
  fill();

  expect(rig.messages()).toEqual([[0, PORT_ADD, 1]]);
});

test("a driver that failed is not told more", () => {
  const { rig, fill } = piped(1);
  fill();
  rig.control(badId, DEVICE_READY, 0);
  rig.control(0, PORT_READY, 0);

  expect(rig.messages()).toEqual([]);
});

test("output of each port goes to its own far end", () => {
  const { rig, pipes } = piped(3);
  rig.say("zero", 0);
  rig.say("one", 1);
  rig.say("two", 2);

  expect(pipes.map(({ out }) => text(out.read))).toEqual(["zero", "one", "two"]);
});

test("input waits until the guest opens the port, and again after it has closed it", () => {
  const { rig, pipes } = piped(2);
  const { write, read } = pipes[1]!.in;
  for (let i = 0; i < 3; i++) rig.room(100, rig.queueOf(1));
  send(write, "early");
  rig.settle();
  // what only a device may say, and what nobody does, opens nothing
  for (const event of [1, 2, 4, 5, 7, 8, 0xffff]) rig.control(1, event, 1);
  expect([rig.arrived(rig.queueOf(1)), bytesToRead(read)]).toEqual([[], 5]);

  rig.control(1, PORT_OPEN, 1);
  expect(rig.arrived(rig.queueOf(1))).toEqual(["early"]);
  rig.control(1, PORT_OPEN, 0);
  send(write, "late");
  rig.settle();
  expect([rig.arrived(rig.queueOf(1)), bytesToRead(read)]).toEqual([[], 4]);
  rig.control(1, PORT_OPEN, 1);

  expect(rig.arrived(rig.queueOf(1))).toEqual(["late"]);
  expect(rig.arrived(0)).toEqual([]);
});

test("a port that is closed does not ask for room", () => {
  const { rig } = piped(1);
  const input = new ConsoleInput(new Float64Array(4));
  const driver = new Driver(rig.ram, 8, 0x40_0000);
  driver.offer([{ address: 0x41_0000, length: 8, write: true }]);
  const options = { indirect: true, eventIndex: false, call: () => {} };
  input.start(new Virtqueue(rig.ram.windows, driver.layout, options));

  expect([input.look(), input.sleep()]).toEqual([0, true]);
  input.isOpen = true;
  expect([input.look(), input.sleep()]).toEqual([8, false]);
});

test("a pause forgets nothing: a port stays open, and news of it is told afterwards", () => {
  const path = inFolder("s");
  const listenFd = later(listenUnix(path, 1), close);
  const size = { word: new SharedArrayBuffer(4), fd: later(createEventfd(), close) };
  const rig = made([{ mode: "socket", listenFd }, { size }], MULTIPORT | SIZE, {
    ports: [port("socket"), port("shell", true)],
    terminal: { port: 1, columns: 80, rows: 25 },
  });
  fill(rig);
  for (const id of [0, 1]) rig.control(id, PORT_READY, 1);
  rig.control(0, PORT_OPEN, 1);
  rig.room(100, 0);
  rig.messages();

  rig.backend.stop();
  const fd = later(connect(path), close);
  send(fd, "typed");
  signalEventfd(size.fd);
  rig.settle();
  rig.resume();
  rig.settle();

  expect(rig.messages().map(([id, event]) => [id, event])).toEqual([
    [0, PORT_OPEN],
    [1, RESIZE],
  ]);
  expect(rig.arrived(0)).toEqual(["typed"]);
});

test("a reset forgets what the driver knew; input waits anew", () => {
  const { rig, pipes, fill } = piped(1);
  rig.control(0, PORT_READY, 1);
  rig.control(0, PORT_OPEN, 1);
  rig.backend.stop();
  rig.start();
  fill();
  rig.room(100, 0);
  send(pipes[0]!.in.write, "x");
  rig.settle();

  expect(rig.messages()).toEqual([]);
  expect(rig.arrived(0)).toEqual([]);
});

describe("a port on a socket", () => {
  const listening = () => {
    const path = inFolder("s");
    const listenFd = later(listenUnix(path, 1), close);
    const rig = made([{}, { mode: "socket", listenFd }], MULTIPORT, {
      ports: [port("null"), port("socket")],
    });
    fill(rig);
    rig.control(badId, DEVICE_READY, 1);
    rig.messages();
    return { path, rig };
  };

  test("is open while it has a client, and the guest is told of each", () => {
    const { path, rig } = listening();
    rig.control(1, PORT_READY, 1);
    expect(rig.messages()).toEqual([[1, PORT_NAME, 1, "socket"]]);

    const fd = connect(path);
    rig.settle();
    expect(rig.messages()).toEqual([[1, PORT_OPEN, 1]]);
    close(fd);
    rig.control(1, PORT_OPEN, 1);
    rig.room(8, rig.queueOf(1));
    rig.settle();
    expect(rig.messages()).toEqual([[1, PORT_OPEN, 0]]);
  });

  test("is told to be closed when its client goes, though the guest has not opened it", () => {
    const { path, rig } = listening();
    rig.control(1, PORT_READY, 1);
    const fd = connect(path);
    rig.settle();
    rig.messages();
    close(fd);
    rig.settle();

    expect(rig.messages()).toEqual([[1, PORT_OPEN, 0]]);
  });

  test("is no news to a driver that has begun anew, or been reset", () => {
    const { path, rig } = listening();
    rig.control(1, PORT_READY, 1);
    rig.control(badId, DEVICE_READY, 1);
    rig.messages();
    const fd = connect(path);
    rig.settle();
    expect(rig.messages()).toEqual([]);

    rig.control(1, PORT_READY, 1);
    rig.messages();
    rig.backend.stop();
    close(fd);
    rig.settle();
    expect(rig.messages()).toEqual([]);
  });

  test("is not told of before the driver has it", () => {
    const { path, rig } = listening();
    const fd = later(connect(path), close);
    rig.settle();
    expect(rig.messages()).toEqual([]);
    rig.control(1, PORT_READY, 1);
    expect(rig.messages()).toEqual([
      [1, PORT_NAME, 1, "socket"],
      [1, PORT_OPEN, 1],
    ]);
    expect(text(fd)).toBe("");
  });
});

describe("a port that is a console", () => {
  const sized = (features: bigint) => {
    const size = { word: new SharedArrayBuffer(4), fd: later(createEventfd(), close) };
    const rig = made([{}, { size }], features, {
      ports: [port("data"), port("shell", true)],
      terminal: { port: 1, columns: 80, rows: 25 },
    });
    fill(rig);
    rig.control(0, PORT_READY, 1);
    rig.control(1, PORT_READY, 1);
    const resize = (columns: number, rows: number) => {
      storeSize(size, { columns, rows });
      signalEventfd(size.fd);
      rig.settle();
    };
    return { rig, resize };
  };
  /** struct virtio_console_resize: columns, rows, 16 bits each. */
  const shape = (columns: number, rows: number) =>
    String.fromCharCode(columns & 255, columns >> 8, rows & 255, rows >> 8);

  test("is told so, and the size of its terminal", () => {
    const { rig, resize } = sized(MULTIPORT | SIZE);
    expect(rig.messages()).toEqual([
      [0, PORT_NAME, 1, "data"],
      [0, PORT_OPEN, 1],
      [1, CONSOLE_PORT, 1],
      [1, PORT_NAME, 1, "shell"],
      [1, PORT_OPEN, 1],
      [1, RESIZE, 1, shape(80, 25)],
    ]);
    resize(300, 40_000);

    expect(rig.messages()).toEqual([[1, RESIZE, 1, shape(300, 40_000)]]);
    expect(rig.worker.configChanges).toBe(0);
  });

  test("alone is told of its terminal's size", () => {
    const size = { word: new SharedArrayBuffer(4), fd: later(createEventfd(), close) };
    const rig = made([{ size }], MULTIPORT | SIZE, {
      ports: [port("data")],
      terminal: { port: 0, columns: 80, rows: 25 },
    });
    fill(rig);
    rig.control(0, PORT_READY, 1);
    signalEventfd(size.fd);
    rig.settle();

    expect(rig.messages().map(([, event]) => event)).toEqual([PORT_NAME, PORT_OPEN]);
  });

  test("is not told of sizes by a driver that does not take them", () => {
    const { rig, resize } = sized(MULTIPORT);
    resize(300, 100);

    expect(rig.messages().map(([, event]) => event)).not.toContain(RESIZE);
  });
});

test("without MULTIPORT the first port is a console, and the others are not there", () => {
  const { rig, pipes } = piped(2, 0n);
  rig.room(100, 0);
  send(pipes[0]!.in.write, "in");
  rig.settle();
  rig.say("out", 0);
  rig.say("nobody", 1);

  expect(rig.arrived(0)).toEqual(["in"]);
  expect(text(pipes[0]!.out.read)).toBe("out");
  expect(text(pipes[1]!.out.read)).toBe("");
  expect(rig.messages()).toEqual([]);
});

describe("a hostile driver", () => {
  test.each([
    ["a port that is not there", 2, PORT_READY, 1],
    ["a port far away", badId, PORT_OPEN, 1],
    ["an event that is not one", 0, 99, 1],
    ["a device's own message", 0, PORT_ADD, 1],
    ["a name", 0, PORT_NAME, 1],
    ["a value that means nothing", 0, PORT_READY, 2],
  ])("is not answered about %s", (_, id, event, value) => {
    const { rig, fill } = piped(2);
    fill();
    rig.control(id, event, value);

    expect(rig.messages()).toEqual([]);
  });

  test("may send messages of any length", () => {
    const { rig, fill } = piped(1);
    fill();
    for (const length of [0, 1, 7, 9, 5000]) {
      rig.ram.bytes(0x30_0000, 5000).fill(0);
      rig.drivers[3]!.offer([{ address: 0x30_0000, length }]);
    }
    rig.backend.kicked(3);

    expect(rig.drivers[3]!.collect().length).toBe(5);
  });

  test("with control buffers too small for a message has broken its queue", () => {
    const { rig } = piped(1);
    rig.room(8, 2);
    rig.room(13, 2); // a name of 6 bytes needs 14
    rig.control(badId, DEVICE_READY, 1);
    expect(rig.messages()).toEqual([[0, PORT_ADD, 1]]);

    expect(() => rig.control(0, PORT_READY, 1)).toThrow(GuestFault);
    expect(rig.backend.stop()).toBe(true);
  });

  test("that never stops talking leaves the worker time for others", () => {
    const { rig } = piped(1);
    const view = rig.ram.view(0x30_0000, 8);
    view.setUint16(4, PORT_OPEN, true);
    const driver = rig.drivers[3]!;
    const head = driver.offer([{ address: 0x30_0000, length: 8 }]);
    // as a driver on another processor: whenever a message is heard, there is one more
    const heard = spyOn(rig.backend, "guestOpened").mockImplementation(() => driver.publish(head));
    rig.backend.kicked(3);
    expect(heard).toHaveBeenCalledTimes(256);
    expect(rig.worker.pump(10_000)).toBe(1); // its other work comes first

    expect(heard).toHaveBeenCalledTimes(512);
  });
});
