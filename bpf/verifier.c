/*
 * What is here for the verifier's sake. It walks every path, and one path on from where two meet only if nothing that it
 * knows of them differs: so what branches leave behind is made unknown where they meet.
 */

/* Makes the verifier forget what it knows of a value's bytes. A call of some nanoseconds. */
static __always_inline void kpf_forget(void *bytes, u32 size)
{
    bpf_probe_read_kernel(bytes, size, bytes);
}

/* A value of which the compiler knows nothing: else it compares with a nought, of which newer verifiers then know something. */
static __always_inline u64 kpf_opaque(u64 value)
{
    asm volatile("" : "+r"(value));
    return value;
}

/*
 * 0, of which the verifier knows nothing: `number = kpf_opaque(number ^ kpf_nought(...))` is any number afterwards. Free.
 * `any` is something that the verifier does not know.
 */
static __always_inline u64 kpf_nought(const volatile u32 *any)
{
    u64 one = *any, same = *any;

    return (one ^ same) << 32 | (one ^ same);
}

/*
 * Which of the programs this is that a text makes (KPF_NUMBER). LLVM does not know, so it compiles the text once; the
 * verifier does, walks nothing that is another one's alone, and takes it out.
 */
static __always_inline u64 kpf_number(void)
{
    return kpf_opaque(KPF_NUMBER);
}
