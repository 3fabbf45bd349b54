/** What cloud-init finds at its first start: files of the user's, and short forms for what most want. */
import * as v from "valibot";
import { later, path, pattern, text } from "./field.ts";

export const CloudInitConfig = later(
  () => ({
    user_data: v.optional(
      path("User data: cloud-config, a script, or another form", { key: "user-data" }),
    ),
    meta_data: v.optional(path("Meta-data, YAML; made up if not given", { key: "meta-data" })),
    network_config: v.optional(
      path("Network configuration, YAML; if not given DHCP on the first interface", {
        key: "network-config",
      }),
    ),
    vendor_data: v.optional(path("Vendor data, which user data overrides", { key: "vendor-data" })),
    ssh_key: v.optional(
      path("Public keys, one a line, that may log in as the default user", { key: "ssh-key" }),
    ),
    hostname: v.optional(
      pattern(
        /^(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,62})?(\.[a-z0-9]([a-z0-9-]{0,62})?)*$/i,
        "a host name, such as web-1",
        "Host name",
        { hint: "NAME" },
      ),
    ),
    password: v.optional(text("Password of the default user, who may then use it over SSH too")),
  }),
  "Seed of cloud-init (NoCloud), as a read-only disk behind the others",
  { option: "cloud-init" },
);

export type CloudInit = v.InferOutput<typeof CloudInitConfig>;
