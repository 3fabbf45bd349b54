/**
 * `count` values, each made of its index. As Array.from({ length }, make), which takes a thread that has just started
 * 0.2 ms: the runtime compiles such functions of its own (flatMap, reduce, findLast, …) where they are first called.
 */
export function times<T>(count: number, make: (index: number) => T): T[] {
  const all: T[] = [];
  for (let index = 0; index < count; index++) all.push(make(index));
  return all;
}
