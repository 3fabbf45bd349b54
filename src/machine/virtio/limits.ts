/** The rate limits of a disk or network interface, as its backend takes them. */
import type { RateLimiterSpec, TokenBucketSpec } from "../../devices/virtio/rate-limiter.ts";
import type { VmConfig } from "../config/vm.ts";

type Limits = NonNullable<VmConfig["disks"]>[number]["rate_limiter_config"];
type Bucket = NonNullable<Limits>["ops"];

function bucket(config: Bucket): TokenBucketSpec | undefined {
  if (!config || config.size === 0) return undefined;
  const { size, one_time_burst: oneTimeBurst = 0, refill_time: refillMs } = config;
  return { size, oneTimeBurst, refillMs };
}

/** Undefined when nothing is limited: buckets of size 0 are no limits. */
export function limitsOf(config: Limits): RateLimiterSpec | undefined {
  const [bytes, ops] = [bucket(config?.bandwidth), bucket(config?.ops)];
  if (!bytes && !ops) return undefined;
  return { ...(bytes && { bytes }), ...(ops && { ops }) };
}
