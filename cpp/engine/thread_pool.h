// A few threads that run one function together: they spin for a moment between jobs, then sleep.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <type_traits>
#include <vector>

namespace gemcut {

class ThreadPool {
 public:
  // Threads of a job, the caller's included; at least 1. Throws Error (failed) if the system does not give them.
  explicit ThreadPool(int num_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return num_threads_; }

  // Runs job(thread index) on every thread and returns when all are done. The job must not throw.
  // One job at a time: callers take turns outside.
  template <class Job>
  void run(Job&& job) {
    run_job([](void* context, int thread) { (*static_cast<std::remove_reference_t<Job>*>(context))(thread); }, &job);
  }

  // Inside a job: waits until every thread is here. What any wrote before, all see after. The last one to come runs
  // finish() before the others go on.
  template <class Finish>
  void barrier(Finish&& finish) {
    uint32_t phase;
    if (!arrive(phase)) return wait(phase);
    finish();
    release(phase);
  }
  void barrier() {
    barrier([] {});
  }

  // Inside a job, called by every thread alike: use(item, next) for the items 0 to count - 1, each by whichever thread
  // is free, then a barrier with finish(). A thread's first item is its own number; `next` is the item that it will do
  // after this one, -1 for none.
  template <class Use, class Finish>
  void share(int thread, int64_t count, Use&& use, Finish&& finish) {
    std::atomic<int64_t>& claimed = counters_[phase_.load(std::memory_order_relaxed) % num_counters].value;
    for (int64_t item = thread; item < count;) {
      const int64_t next = num_threads_ + claimed.fetch_add(1, std::memory_order_relaxed);
      use(item, next < count ? next : -1);
      item = next;
    }
    barrier(finish);
  }
  template <class Use>
  void share(int thread, int64_t count, Use&& use) {
    share(thread, count, [&use](int64_t item, int64_t) { use(item); }, [] {});
  }

 private:
  using Function = void (*)(void*, int);
  struct alignas(64) Counter {
    std::atomic<int64_t> value{0};
  };
  void run_job(Function function, void* context);
  bool arrive(uint32_t& phase);  // true for the last thread
  void wait(uint32_t phase);
  void release(uint32_t phase);
  void work(int thread);
  void end();

  const int num_threads_;
  const int spins_;
  Function function_ = nullptr;
  void* context_ = nullptr;
  alignas(64) std::atomic<uint32_t> job_{0};       // number of the current job; the last one ends the threads
  alignas(64) std::atomic<int32_t> unfinished_{0};
  alignas(64) std::atomic<int32_t> arrived_{0};
  alignas(64) std::atomic<uint32_t> phase_{0};
  std::atomic<bool> ends_{false};
  // One for each phase between barriers, in turn; a phase's last thread clears the one after the next.
  static constexpr uint32_t num_counters = 4;
  Counter counters_[num_counters];
  std::vector<std::thread> threads_;
};

}  // namespace gemcut
