/* virtio-pci, modern: virtio 1.2, section 4.1. */
#include "virtio-pci.h"

#define VENDOR 0x1af4
#define DEVICE_BASE 0x1040
/* Types of vendor capabilities, and where their fields are (struct virtio_pci_cap). */
enum { CAP_COMMON = 1, CAP_NOTIFY, CAP_ISR, CAP_DEVICE };
#define CAP_TYPE 3
#define CAP_BAR 4
#define CAP_OFFSET 8
#define CAP_NOTIFY_MULTIPLIER 16
#define MSIX_TABLE 4
#define MSIX_PENDING 8
/* The pins that chv has INTA of the slots on. */
#define FIRST_PIN 16
#define PINS 8

void virtio_pci_locate(struct virtio *device)
{
	u32 slot = device->slot;
	for (u32 at = 0; (at = pci_capability(slot, PCI_CAP_VENDOR, at));) {
		u32 bar = pci_read8(slot, at + CAP_BAR);
		if (bar > 5)
			continue;
		u64 place = pci_bar(slot, bar) + pci_read32(slot, at + CAP_OFFSET);
		switch (pci_read8(slot, at + CAP_TYPE)) {
		case CAP_COMMON:
			device->bar = bar;
			device->common = place;
			break;
		case CAP_NOTIFY:
			device->notify = place;
			device->notify_multiplier = pci_read32(slot, at + CAP_NOTIFY_MULTIPLIER);
			break;
		case CAP_ISR:
			device->isr = place;
			break;
		case CAP_DEVICE:
			device->config = place;
		}
	}
	u32 at = device->msix_capability = pci_capability(slot, PCI_CAP_MSIX, 0);
	if (!at)
		return;
	u32 table = pci_read32(slot, at + MSIX_TABLE), pending = pci_read32(slot, at + MSIX_PENDING);
	device->vectors = (pci_read16(slot, at + MSIX_CONTROL) & 0x7ff) + 1;
	device->msix_table = pci_bar(slot, table & 7) + (table & ~7u);
	device->msix_pending = pci_bar(slot, pending & 7) + (pending & ~7u);
}

static int find(struct virtio *device, u32 type, u32 nth)
{
	for (u32 slot = 0; slot < 32; slot++) {
		if (pci_read32(slot, PCI_ID) != (VENDOR | (DEVICE_BASE + type) << 16) || nth--)
			continue;
		device->slot = slot;
		device->pin = FIRST_PIN + slot % PINS;
		u16 command = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
		pci_write16(slot, PCI_COMMAND, pci_read16(slot, PCI_COMMAND) | command);
		virtio_pci_locate(device);
		return 1;
	}
	return 0;
}

static u32 status(struct virtio *device)
{
	return read8(device->common + COMMON_STATUS);
}

static void set_status(struct virtio *device, u32 status)
{
	write8(device->common + COMMON_STATUS, status);
}

static u64 features(struct virtio *device)
{
	write32(device->common + COMMON_DEVICE_FEATURE_SELECT, 1);
	u64 high = read32(device->common + COMMON_DEVICE_FEATURE);
	write32(device->common + COMMON_DEVICE_FEATURE_SELECT, 0);
	return high << 32 | read32(device->common + COMMON_DEVICE_FEATURE);
}

static void set_features(struct virtio *device, u64 features)
{
	write32(device->common + COMMON_DRIVER_FEATURE_SELECT, 1);
	write32(device->common + COMMON_DRIVER_FEATURE, features >> 32);
	write32(device->common + COMMON_DRIVER_FEATURE_SELECT, 0);
	write32(device->common + COMMON_DRIVER_FEATURE, features);
}

static u32 queue_most(struct virtio *device, u32 index)
{
	write16(device->common + COMMON_QUEUE_SELECT, index);
	return read16(device->common + COMMON_QUEUE_SIZE);
}

static void set_address(u64 at, u64 address)
{
	write32(at, address);
	write32(at + 4, address >> 32);
}

static void set_queue(struct virtio *device, u32 index, struct virtqueue *queue)
{
	u64 common = device->common;
	write16(common + COMMON_QUEUE_SELECT, index);
	write16(common + COMMON_QUEUE_SIZE, queue->size);
	set_address(common + COMMON_QUEUE_DESC, queue->table_at);
	set_address(common + COMMON_QUEUE_DRIVER, queue->avail_at);
	set_address(common + COMMON_QUEUE_DEVICE, queue->used_at);
	write16(common + COMMON_QUEUE_ENABLE, 1);
	u32 offset = read16(common + COMMON_QUEUE_NOTIFY_OFF) * device->notify_multiplier;
	queue->notify = device->notify + offset;
	queue->notify_bytes = 2;
}

static u32 generation(struct virtio *device)
{
	return read8(device->common + COMMON_GENERATION);
}

static u32 isr(struct virtio *device)
{
	return read8(device->isr);
}

static void set_control(struct virtio *device, u16 bits, u16 value)
{
	u32 at = device->msix_capability + MSIX_CONTROL;
	pci_write16(device->slot, at, (pci_read16(device->slot, at) & ~bits) | value);
}

static int set_vector(struct virtio *device, u32 vector, u32 cpu, u8 data)
{
	if (vector >= device->vectors)
		return 0;
	set_control(device, MSIX_ENABLE, MSIX_ENABLE);
	u64 entry = device->msix_table + vector * MSIX_ENTRY;
	write32(entry, 0xfee00000 | cpu << 12);
	write32(entry + 4, 0);
	write32(entry + MSIX_ENTRY_DATA, data);
	virtio_mask_vector(device, vector, 0);
	if (vector == 0) {
		write16(device->common + COMMON_CONFIG_VECTOR, 0);
		return read16(device->common + COMMON_CONFIG_VECTOR) == 0;
	}
	write16(device->common + COMMON_QUEUE_SELECT, vector - 1);
	write16(device->common + COMMON_QUEUE_VECTOR, vector);
	return read16(device->common + COMMON_QUEUE_VECTOR) == vector;
}

void virtio_mask_vector(struct virtio *device, u32 vector, int masked)
{
	write32(device->msix_table + vector * MSIX_ENTRY + MSIX_ENTRY_CONTROL, !!masked);
}

void virtio_mask_function(struct virtio *device, int masked)
{
	set_control(device, MSIX_FUNCTION_MASK, masked ? MSIX_FUNCTION_MASK : 0);
}

int virtio_vector_pending(struct virtio *device, u32 vector)
{
	return read32(device->msix_pending + vector / 32 * 4) >> vector % 32 & 1;
}

static void no_vectors(struct virtio *device)
{
	if (device->vectors)
		set_control(device, MSIX_ENABLE | MSIX_FUNCTION_MASK, 0);
}

const struct virtio_transport virtio_pci = {
	find,	   status,    set_status, features,   set_features, queue_most,
	set_queue, generation, isr,	   set_vector, no_vectors,
};
