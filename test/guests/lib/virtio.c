#include "virtio.h"
#include "apic.h"
#include "boot.h"
#include "interrupts.h"
#include "wait.h"

/*
 * Vectors of the processor: a row for each device that takes interrupts, the last of it for the pin. A
 * pin's interrupt may come once more after the pin fell: it must not be taken for a vector's.
 */
#define FIRST_VECTOR 0x50
#define ROW (VIRTIO_QUEUES + 2)
#define ROWS 5
#define PIN (ROW - 1)

static struct virtio *rows[ROWS];

int virtio_find(struct virtio *device, u32 type, u32 nth)
{
	*device = (struct virtio){ .type = type };
	device->transport = argument_is("transport", "mmio") ? &virtio_mmio : &virtio_pci;
	return device->transport->find(device, type, nth);
}

int virtio_reset(struct virtio *device)
{
	device->transport->set_status(device, 0);
	return WAIT(virtio_status(device) == 0);
}

int virtio_negotiate(struct virtio *device, u64 wanted)
{
	const struct virtio_transport *transport = device->transport;
	transport->set_status(device, VIRTIO_ACKNOWLEDGE);
	transport->set_status(device, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER);
	device->offered = transport->features(device);
	device->features = (device->offered & wanted) | VIRTIO_F_VERSION_1;
	transport->set_features(device, device->features);
	u32 accepted = VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_FEATURES_OK;
	transport->set_status(device, accepted);
	return virtio_status(device) == accepted;
}

int virtio_queue(struct virtio *device, u32 index, struct virtqueue *queue, u32 size)
{
	u32 most = device->transport->queue_most(device, index);
	if (most > QUEUE_MOST)
		most = QUEUE_MOST;
	if (!most)
		return 0;
	virtqueue_init(queue, size < most ? size : most,
		       !!(device->features & VIRTIO_F_INDIRECT_DESC),
		       !!(device->features & VIRTIO_F_EVENT_IDX));
	queue->number = index;
	device->transport->set_queue(device, index, queue);
	return 1;
}

int virtio_ready(struct virtio *device)
{
	device->transport->set_status(device, VIRTIO_LIVE);
	return virtio_status(device) == VIRTIO_LIVE;
}

int virtio_start(struct virtio *device, u64 wanted, struct virtqueue *queues, u32 count, u32 size)
{
	if (!virtio_reset(device) || !virtio_negotiate(device, wanted))
		return 0;
	if (!virtio_interrupts(device, count))
		return 0;
	for (u32 i = 0; i < count; i++)
		if (!virtio_queue(device, i, &queues[i], size))
			return 0;
	return virtio_ready(device);
}

int virtio_stop(struct virtio *device)
{
	int stopped = virtio_reset(device);
	device->transport->no_vectors(device);
	if (device->by == BY_PIN)
		ioapic_mask(device->pin);
	return stopped;
}

static void count_call(struct virtio *device, u32 vector)
{
	fetch_add(&device->calls[vector], 1);
}

static void on_call(struct frame *frame)
{
	u32 at = frame->vector - FIRST_VECTOR;
	struct virtio *device = rows[at / ROW];
	if (at % ROW != PIN) {
		count_call(device, at % ROW);
	} else {
		u32 isr = device->transport->isr(device);
		if (isr & 1)
			count_call(device, 1);
		if (isr & 2)
			count_call(device, 0);
	}
	end_of_interrupt();
}

/* The row of a device; the first one again when there are too many. */
static u32 row_of(struct virtio *device)
{
	u32 row = 0;
	while (row < ROWS && rows[row] && rows[row] != device)
		row++;
	row %= ROWS;
	rows[row] = device;
	return row;
}

int virtio_interrupts(struct virtio *device, u32 queues)
{
	if (device->by != BY_MSIX)
		device->transport->no_vectors(device);
	if (device->by == BY_POLLING)
		return 1;
	u8 first = FIRST_VECTOR + row_of(device) * ROW;
	lapic_enable();
	for (u32 vector = 0; vector <= queues; vector++) {
		device->calls[vector] = 0;
		on_interrupt(first + vector, on_call);
	}
	if (device->by == BY_PIN) {
		on_interrupt(first + PIN, on_call);
		ioapic_route(device->pin, (first + PIN) | RTE_LEVEL, device->cpu);
		return device->pin != 0;
	}
	for (u32 vector = 0; vector <= queues; vector++)
		if (!device->transport->set_vector(device, vector, device->cpu, first + vector))
			return 0;
	return 1;
}
