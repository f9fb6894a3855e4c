// The few compile-time tools the kernels need. No standard header: code compiled for one instruction set must not
// share inline functions with the rest of the program, or the linker may pick the wrong copy.
template <int value>
struct constant {
  constexpr int operator()() const { return value; }
};
template <int... values>
struct indices {};

template <int count, int index = 0, class Use>
static inline __attribute__((always_inline)) void for_each_index(Use&& use) {
  if constexpr (index < count) {
    use(constant<index>{});
    for_each_index<count, index + 1>(use);
  }
}
