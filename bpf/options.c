/*
 * cgroup/setsockopt, where adapters are filtered: the two ways around their filters, refused to whom these would deny
 * anything. A packet socket that skips the queueing discipline, and an XDP socket, send what nobody sees.
 */
#define KPF_SOL_PACKET 263
#define KPF_QDISC_BYPASS 20
#define KPF_SOL_XDP 283
#define KPF_PAGE 4096

/* Whether the calling process may send anything to anybody: both its cells for that permit. */
static __always_inline int kpf_may_bypass(void)
{
    struct kpf_flow flow = {.direction = KPF_OUT};
    struct kpf_case this = {};
    struct kpf_owner owner = {};
    struct kpf_rule rule = {};
    u64 active_word = kpf_active();
    u32 zero = 0, pid, zone;
    void *images_of;

    if (!active_word)
        return 1; /* KPF_DEFAULT_NO_IMAGE */
    kpf_identify_current(&flow.application, &flow.component, &pid, &flow.uid);
    this.numbers.slot = KPF_ACTIVE_SLOT(active_word);
    images_of = images.lookup((int *)&this.numbers.slot);
    if (images_of)
        this.image = bpf_map_lookup_elem(images_of, &zero);
    if (!this.image || kpf_find_application(&this, &flow, &owner)) {
        kpf_broken_image(&rule);
        return 0;
    }
    if (KPF_ACTIVE_STOP_ALL(active_word)) {
        kpf_count(&this.image->stop_all, 0, 0, 1);
        return 0;
    }
#pragma unroll
    for (zone = 0; zone < 2; zone++) {
        if (kpf_read_rule(this.numbers.slot, owner.modified ? owner.instead : owner.cells[2 * zone + KPF_OUT], &rule)) {
            kpf_broken_image(&rule);
            return 0;
        }
        if (rule.action == KPF_DENY) {
            kpf_count(&rule, 0, 0, 1);
            return 0;
        }
    }
    return 1;
}

KPF_ADAPTERS_PROGRAM kpf_setsockopt(struct bpf_sockopt *ctx)
{
    if (ctx->optlen > KPF_PAGE)
        ctx->optlen = 0; /* "as the caller gave it": a program sees no more than a page, and must say so */
    if ((ctx->level == KPF_SOL_PACKET && ctx->optname == KPF_QDISC_BYPASS) || ctx->level == KPF_SOL_XDP)
        return kpf_may_bypass();
    return 1;
}
