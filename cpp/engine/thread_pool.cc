#include "engine/thread_pool.h"

#include <string>
#include <system_error>

#include "engine/machine.h"
#include "formats/error.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace gemcut {
namespace {

// About 100 microseconds of waiting awake: longer than any gap inside a pass, shorter than one between requests.
constexpr int long_spin = 4000;

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

// Waits until `value` is no longer `old`: awake at first, then asleep.
template <class T>
void wait_change(std::atomic<T>& value, T old, int spins) {
  for (int spin = 0; spin < spins; ++spin) {
    if (value.load(std::memory_order_acquire) != old) return;
    pause();
  }
  while (value.load(std::memory_order_acquire) == old) value.wait(old, std::memory_order_acquire);
}

}  // namespace

// More threads than cores must not burn the time of the one that has work.
ThreadPool::ThreadPool(int num_threads)
    : num_threads_(num_threads < 1 ? 1 : num_threads), spins_(num_threads <= usable_cores() ? long_spin : 20) {
  threads_.reserve(static_cast<size_t>(num_threads_ - 1));
  try {
    for (int thread = 1; thread < num_threads_; ++thread) threads_.emplace_back([this, thread] { work(thread); });
  } catch (const std::system_error& error) {
    const size_t started = threads_.size() + 1;
    end();
    throw Error(ErrorKind::failed, "[engine.thread_pool] threads is " + std::to_string(num_threads_) + ", but the system gave " +
                                       std::to_string(started) + " (" + error.what() + "). Ask for fewer, or free memory.");
  }
}

ThreadPool::~ThreadPool() { end(); }

void ThreadPool::end() {
  ends_.store(true, std::memory_order_relaxed);
  job_.fetch_add(1, std::memory_order_release);
  job_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ThreadPool::run_job(Function function, void* context) {
  if (num_threads_ == 1) {
    function(context, 0);
    return;
  }
  function_ = function;
  context_ = context;
  unfinished_.store(num_threads_ - 1, std::memory_order_relaxed);
  job_.fetch_add(1, std::memory_order_release);
  job_.notify_all();
  function(context, 0);
  for (int32_t left = unfinished_.load(std::memory_order_acquire); left != 0;
       left = unfinished_.load(std::memory_order_acquire))
    wait_change(unfinished_, left, spins_);
}

void ThreadPool::work(int thread) {
  uint32_t seen = 0;
  for (;;) {
    wait_change(job_, seen, spins_);
    ++seen;
    if (ends_.load(std::memory_order_relaxed)) return;
    function_(context_, thread);
    if (unfinished_.fetch_sub(1, std::memory_order_acq_rel) == 1) unfinished_.notify_one();
  }
}

bool ThreadPool::arrive(uint32_t& phase) {
  phase = phase_.load(std::memory_order_relaxed);
  return arrived_.fetch_add(1, std::memory_order_acq_rel) == num_threads_ - 1;
}

void ThreadPool::wait(uint32_t phase) { wait_change(phase_, phase, spins_); }

void ThreadPool::release(uint32_t phase) {
  arrived_.store(0, std::memory_order_relaxed);
  counters_[(phase + 2) % num_counters].value.store(0, std::memory_order_relaxed);
  // notify_all() wakes nobody unless it sees that someone sleeps, and who goes to sleep looks at the phase once more. One
  // of the two sees the other only if the store comes before that look in the one order of all: a release store may
  // still be on its way, and then both sleep for ever.
  phase_.store(phase + 1, std::memory_order_seq_cst);
  phase_.notify_all();
}

}  // namespace gemcut
