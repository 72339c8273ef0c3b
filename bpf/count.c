/* Counting what is not a rule's: default verdicts and perf events. */
static __always_inline void kpf_count_default(u32 which)
{
    u64 *count = defaults.lookup(&which);

    if (count)
        *count += 1;
}
