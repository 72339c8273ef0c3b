/*
 * The header of a plain packet, read where it lies, and addresses as it has them: what most packets are known by.
 */
/* What a packet, or a cache, is of, in a word. `ipv4` is 1 or 0. */
static __always_inline u64 kpf_cache_kind(u8 protocol, u64 ipv4)
{
    return KPF_CACHE_LAYOUT << 25 | ipv4 << 24 | (u64)protocol;
}

/*
 * What the header of a plain packet says, in network order, and in whole words: what is to be cut to half of one costs as
 * much again.
 */
struct kpf_header {
    u64 last;     /* of the addresses the last 32 bits: the local one's in the lower half, the remote one's in the upper */
    u64 upper[3]; /* the first 64 bits of the local one, of the remote one, and the 32 bits after that, as in `last` */
    u64 ports;    /* as kpf_cache has them */
    u64 kind;
};
#define KPF_IPV4_HALF ((u64)bpf_htonl(0xffff))
#define KPF_IPV4_BOTH (KPF_IPV4_HALF << 32 | KPF_IPV4_HALF)

static __always_inline u64 kpf_both(u64 lower, u64 upper)
{
    return upper << 32 | lower;
}

/* The remote address of a header, two words at once. */
static __always_inline void kpf_remote_of(u64 remote[2], const struct kpf_header *header)
{
    remote[0] = header->upper[1];
    remote[1] = header->last >> 32 << 32 | header->upper[2] >> 32;
}

/* 1: an address in two words is IPv4. Without a branch. */
static __always_inline u64 kpf_is_ipv4_in(const u64 address[2])
{
    u64 other = address[0] | ((address[1] & 0xffffffff) ^ KPF_IPV4_HALF);

    return kpf_opaque(~other & (other - 1)) >> 63;
}

/* kpf_map_ipv4() for two words at once. */
static __always_inline void kpf_map_header(u64 out[2], u32 address)
{
    out[0] = 0;
    out[1] = (u64)address << 32 | KPF_IPV4_HALF;
}

/* Source and destination port as they lie there; local and remote one. */
static __always_inline u64 kpf_ports_of(u64 ports, int out)
{
    return out ? ports : (ports & 0xffff) << 16 | ports >> 16;
}

/* Reads a header of IPv4 without options, of no fragment, of which 24 bytes are there. */
static __always_inline void kpf_peek_ipv4(const u8 *at, int out, struct kpf_header *header)
{
    header->last = kpf_both(*(u32 *)(at + (out ? 12 : 16)), *(u32 *)(at + (out ? 16 : 12)));
    header->upper[0] = 0;
    header->upper[1] = 0;
    header->upper[2] = KPF_IPV4_BOTH;
    header->kind = kpf_cache_kind(at[9], 1);
    header->ports = kpf_ports_of(*(u32 *)(at + 20), out);
}

/* Reads a header: no options, no fragment, no extensions, in one piece. Anything else takes the long way. */
static __always_inline int kpf_peek(struct __sk_buff *skb, int out, struct kpf_header *header)
{
    const u8 *at = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
    const u32 *local, *remote;

    if (at + 24 > end)
        return -1;
    if (at[0] == 0x45) {
        if (*(u16 *)(at + 6) & bpf_htons(0x3fff))
            return -1;
        kpf_peek_ipv4(at, out, header);
    } else {
        if (at[0] >> 4 != 6 || at + 44 > end)
            return -1;
        local = (void *)(at + (out ? 8 : 24));
        remote = (void *)(at + (out ? 24 : 8));
        header->last = kpf_both(local[3], remote[3]);
        header->upper[0] = *(u64 *)local;
        header->upper[1] = *(u64 *)remote;
        header->upper[2] = kpf_both(local[2], remote[2]);
        header->kind = kpf_cache_kind(at[6], 0);
        header->ports = kpf_ports_of(*(u32 *)(at + 40), out);
    }
    return 0;
}
