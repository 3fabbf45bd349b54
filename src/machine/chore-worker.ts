/** The entry of a chores' thread. Its first message says whose chores; it never returns to the event loop. */
import "../compile-late.ts";
import { type ChoreThreadSpec, runChoreThread } from "./chore-thread.ts";

declare const self: Worker;

self.onmessage = ({ data }: MessageEvent<ChoreThreadSpec>) => runChoreThread(data);
