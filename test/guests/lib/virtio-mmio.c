/* virtio-mmio version 2: virtio 1.2, section 4.2.2, and linux/virtio_mmio.h. */
#include "boot.h"
#include "virtio-mmio.h"

static u32 get(struct virtio *device, u32 offset)
{
	return read32(device->page + offset);
}

static void set(struct virtio *device, u32 offset, u32 value)
{
	write32(device->page + offset, value);
}

/* A number in decimal or, with 0x, in hexadecimal; what follows it is left in `text`. */
static u64 number(const char **text)
{
	u64 value = 0, base = 10;
	const char *at = *text;
	if (at[0] == '0' && at[1] == 'x') {
		base = 16;
		at += 2;
	}
	for (;; at++) {
		if (*at >= '0' && *at <= '9')
			value = value * base + (*at - '0');
		else if (base == 16 && *at >= 'a' && *at <= 'f')
			value = value * base + (*at - 'a' + 10);
		else
			break;
	}
	*text = at;
	return value;
}

/* `text` begins a word virtio_mmio.device=SIZE@ADDRESS:GSI: takes address and GSI. */
static int announced(const char *text, struct virtio *device)
{
	for (const char *name = "virtio_mmio.device="; *name; name++, text++)
		if (*text != *name)
			return 0;
	number(&text);
	while (*text && *text != '@' && *text != ' ')
		text++;
	if (*text++ != '@')
		return 0;
	device->page = number(&text);
	if (*text++ != ':')
		return 0;
	device->pin = number(&text);
	return 1;
}

static int find(struct virtio *device, u32 type, u32 nth)
{
	const char *at = (const char *)start_info->cmdline_paddr;
	while (at && *at) {
		if (announced(at, device) && get(device, MMIO_MAGIC) == MMIO_MAGIC_VALUE &&
		    get(device, MMIO_VERSION) == 2 && get(device, MMIO_DEVICE) == type && nth-- == 0) {
			device->config = device->page + MMIO_CONFIG;
			return 1;
		}
		while (*at && *at != ' ')
			at++;
		while (*at == ' ')
			at++;
	}
	return 0;
}

static u32 status(struct virtio *device)
{
	return get(device, MMIO_STATUS);
}

static void set_status(struct virtio *device, u32 status)
{
	set(device, MMIO_STATUS, status);
}

static u64 features(struct virtio *device)
{
	set(device, MMIO_DEVICE_FEATURES_SEL, 1);
	u64 high = get(device, MMIO_DEVICE_FEATURES);
	set(device, MMIO_DEVICE_FEATURES_SEL, 0);
	return high << 32 | get(device, MMIO_DEVICE_FEATURES);
}

static void set_features(struct virtio *device, u64 features)
{
	set(device, MMIO_DRIVER_FEATURES_SEL, 1);
	set(device, MMIO_DRIVER_FEATURES, features >> 32);
	set(device, MMIO_DRIVER_FEATURES_SEL, 0);
	set(device, MMIO_DRIVER_FEATURES, features);
}

static u32 queue_most(struct virtio *device, u32 index)
{
	set(device, MMIO_QUEUE_SEL, index);
	return get(device, MMIO_QUEUE_NUM_MAX);
}

static void set_address(struct virtio *device, u32 offset, u64 address)
{
	set(device, offset, address);
	set(device, offset + 4, address >> 32);
}

static void set_queue(struct virtio *device, u32 index, struct virtqueue *queue)
{
	set(device, MMIO_QUEUE_SEL, index);
	set(device, MMIO_QUEUE_NUM, queue->size);
	set_address(device, MMIO_QUEUE_DESC, queue->table_at);
	set_address(device, MMIO_QUEUE_DRIVER, queue->avail_at);
	set_address(device, MMIO_QUEUE_DEVICE, queue->used_at);
	set(device, MMIO_QUEUE_READY, 1);
	queue->notify = device->page + MMIO_QUEUE_NOTIFY;
	queue->notify_bytes = 4;
}

static u32 generation(struct virtio *device)
{
	return get(device, MMIO_CONFIG_GENERATION);
}

static u32 isr(struct virtio *device)
{
	u32 pending = get(device, MMIO_INTERRUPT_STATUS);
	set(device, MMIO_INTERRUPT_ACK, pending);
	return pending;
}

static int set_vector(struct virtio *device, u32 vector, u32 cpu, u8 data)
{
	(void)device, (void)vector, (void)cpu, (void)data;
	return 0; /* there is no MSI-X */
}

static void no_vectors(struct virtio *device)
{
	(void)device;
}

const struct virtio_transport virtio_mmio = {
	find,	   status,    set_status, features,   set_features, queue_most,
	set_queue, generation, isr,	   set_vector, no_vectors,
};
