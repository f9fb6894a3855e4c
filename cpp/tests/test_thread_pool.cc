// The thread pool: every item once, whatever the threads do; also run under the thread sanitizer.
#include "engine/thread_pool.h"

#include <pthread.h>

#include <numeric>
#include <vector>

#include "formats/error.h"
#include "tests/testing.h"

using gemcut::ThreadPool;

namespace {

// Work that takes longer for some items than for others.
int64_t spend(int64_t item) {
  volatile int64_t sum = 0;
  for (int64_t i = 0; i < (item % 7 == 0 ? 2000 : 10); ++i) sum = sum + i;
  return sum;
}

}  // namespace

TEST(thread_pool_shares_every_item_once) {
  for (const int num_threads : {1, 2, 3, 7, 64}) {
    ThreadPool pool(num_threads);
    CHECK_EQUAL(pool.num_threads(), num_threads);
    const int phases = num_threads == 64 ? 60 : 1500;
    std::vector<int> times(200);  // not atomic: each item is one thread's
    int64_t wanted = 0, total = 0;
    pool.run([&](int thread) {
      for (int phase = 0; phase < phases; ++phase) {
        const int64_t count = phase * 13 % 201;
        pool.share(thread, count, [&](int64_t item) {
          spend(item);
          ++times[static_cast<size_t>(item)];
        });
      }
    });
    for (int phase = 0; phase < phases; ++phase) wanted += phase * 13 % 201;
    total = std::accumulate(times.begin(), times.end(), int64_t{0});
    CHECK_EQUAL(total, wanted);
    for (size_t item = 1; item < times.size(); ++item) CHECK(times[item] <= times[item - 1]);
  }
}

TEST(thread_pool_tells_each_thread_its_next_item) {
  for (const int num_threads : {1, 3}) {
    ThreadPool pool(num_threads);
    std::vector<int64_t> expected(static_cast<size_t>(num_threads));
    std::vector<int> wrong(static_cast<size_t>(num_threads)), done(100), finished(50);
    pool.run([&](int thread) {
      const size_t own = static_cast<size_t>(thread);
      for (size_t phase = 0; phase < finished.size(); ++phase) {
        expected[own] = thread;
        pool.share(
            thread, static_cast<int64_t>(done.size()),
            [&](int64_t item, int64_t next) {
              wrong[own] += item != expected[own];
              expected[own] = next;
              ++done[static_cast<size_t>(item)];
            },
            // Alone, after all items: it sees what every thread wrote.
            [&] {
              finished[phase] = 1;
              for (const int times : done) finished[phase] &= times == static_cast<int>(phase) + 1;
            });
        wrong[own] += expected[own] != -1 && expected[own] != thread;
        wrong[own] += finished[phase] != 1;
      }
    });
    for (const int count : wrong) CHECK_EQUAL(count, 0);
  }
}

TEST(thread_pool_runs_job_after_job_on_all_threads) {
  for (const int num_threads : {1, 2, 3, 7, 64}) {
    ThreadPool pool(num_threads);
    std::vector<int> jobs(static_cast<size_t>(num_threads));
    for (int job = 1; job <= (num_threads == 64 ? 30 : 1000); ++job) {
      pool.run([&](int thread) { ++jobs[static_cast<size_t>(thread)]; });
      for (const int done : jobs) CHECK_EQUAL(done, job);
    }
  }
}

TEST(thread_pool_barrier_shows_what_the_others_wrote) {
  constexpr int num_threads = 3, phases = 2000;
  ThreadPool pool(num_threads);
  int written[2][num_threads] = {}, wrong[num_threads] = {};
  pool.run([&](int thread) {
    for (int phase = 1; phase <= phases; ++phase) {
      written[phase % 2][thread] = phase;
      pool.barrier();
      for (const int other : written[phase % 2]) wrong[thread] += other != phase;
    }
  });
  for (const int count : wrong) CHECK_EQUAL(count, 0);
}

TEST(thread_pool_of_no_threads_is_the_caller_alone) {
  for (const int num_threads : {0, -3}) {
    ThreadPool pool(num_threads);
    CHECK_EQUAL(pool.num_threads(), 1);
    int64_t sum = 0;
    pool.run([&](int thread) { pool.share(thread, 10, [&](int64_t item) { sum += item; }); });
    CHECK_EQUAL(sum, 45);
  }
}

TEST(thread_pool_ends_without_a_job_and_right_after_one) {
  for (int repeat = 0; repeat < 50; ++repeat) {
    const ThreadPool unused(3);
    ThreadPool pool(3);
    int ran[3] = {};
    pool.run([&](int thread) { ran[thread] = 1; });
    CHECK_EQUAL(ran[0] + ran[1] + ran[2], 3);
  }
}

#if defined(__GLIBC__)
TEST(thread_pool_that_the_system_gives_no_threads_is_an_error) {
  pthread_attr_t before, huge;
  CHECK_EQUAL(pthread_getattr_default_np(&before), 0);
  CHECK_EQUAL(pthread_getattr_default_np(&huge), 0);
  CHECK_EQUAL(pthread_attr_setstacksize(&huge, size_t{1} << 50), 0);  // more than any address space
  CHECK_EQUAL(pthread_setattr_default_np(&huge), 0);
  std::string problem;
  try {
    const ThreadPool pool(64);
  } catch (const gemcut::Error& error) {
    problem = error.what();
  }
  pthread_setattr_default_np(&before);
  CHECK_EQUAL(problem.find("[engine.thread_pool] threads is 64, but the system gave "), size_t{0});
  CHECK(problem.find("Ask for fewer, or free memory.") != std::string::npos);
  ThreadPool(3).run([](int) {});
}
#endif
