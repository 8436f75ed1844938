// SPDX-License-Identifier: Apache-2.0
#include "tests/parallel/comm_cases.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/error.h"
#include "parallel/agree.h"
#include "parallel/flight_log.h"
#include "parallel/placement.h"
#include "parallel/replica_check.h"

namespace farsight::testing {

namespace {

// The data of any rank, known to all: numbers up to 128 whose sums round.
std::vector<float> data_of(int rank, size_t count) {
  std::mt19937 generator(static_cast<uint32_t>(rank * 1000 + 17));
  std::vector<float> values(count);
  for (float& v : values) v = static_cast<float>(static_cast<int32_t>(generator())) * 0x1p-24F;
  return values;
}

std::vector<float> ordered_sum(int ranks, size_t count) {
  std::vector<float> sum = data_of(0, count);
  for (int r = 1; r < ranks; ++r) {
    const auto x = data_of(r, count);
    for (size_t i = 0; i < count; ++i) sum[i] += x[i];
  }
  return sum;
}

}  // namespace

void reductions_are_exact_and_ordered(Communicator& world) {
  const int n = world.size();
  std::vector<int64_t> integers{world.rank(), -world.rank(), int64_t{1} << 40};
  world.all_reduce(std::span<int64_t>(integers), ReduceOp::sum);
  EXPECT_EQ(integers, (std::vector<int64_t>{n * (n - 1) / 2, -n * (n - 1) / 2, (int64_t{1} << 40) * n}));
  std::vector<int64_t> extremes{world.rank(), world.rank()};
  world.all_reduce(std::span<int64_t>(extremes.data(), 1), ReduceOp::max);
  world.all_reduce(std::span<int64_t>(extremes.data() + 1, 1), ReduceOp::min);
  EXPECT_EQ(extremes, (std::vector<int64_t>{n - 1, 0}));
  std::vector<double> doubles{0.1 * world.rank()};
  double expected = 0.0;
  for (int r = 0; r < n; ++r) expected = r == 0 ? 0.1 * r : expected + 0.1 * r;
  world.all_reduce(std::span<double>(doubles), ReduceOp::sum);
  EXPECT_EQ(doubles[0], expected);
}

void reductions_take_any_size(Communicator& world) {
  for (const size_t count : {0UL, 1UL, 3UL, 511UL, 512UL, 513UL, 1000UL, 65536UL, 300007UL}) {
    std::vector<float> data = data_of(world.rank(), count);
    world.all_reduce(std::span<float>(data), ReduceOp::sum);
    const auto expected = ordered_sum(world.size(), count);
    EXPECT_TRUE(data.empty() || std::memcmp(data.data(), expected.data(), count * sizeof(float)) == 0)
        << count << " elements: not the sum in rank order, bit for bit";
  }
}

void async_reductions_overlap(Communicator& world) {
  std::vector<std::vector<float>> data;
  std::vector<RequestPtr> requests;
  for (size_t i = 0; i < 5; ++i) data.push_back(data_of(world.rank(), 1000 + 30000 * i));
  for (auto& d : data) requests.push_back(world.all_reduce_async(d, ReduceOp::sum));
  // Ranks wait in different orders; a blocking collective runs in between.
  world.barrier();
  for (size_t i = 0; i < 5; ++i) requests[(i + static_cast<size_t>(world.rank())) % 5]->wait();
  for (const auto& d : data) EXPECT_EQ(d, ordered_sum(world.size(), d.size()));
}

namespace {

// One operation of each kind, of a size of its own; pieces of all sizes, some empty.
class Round {
 public:
  Round(Communicator& world, size_t number)
      : n_(static_cast<size_t>(world.size())), me_(rank_of(world)), number_(number) {
    const size_t size = 100 + 7001 * number;
    for (size_t r = 0; r < n_; ++r) counts_.push_back(static_cast<int64_t>(r % 2 == 1 ? number : size + r));
    for (const int64_t c : counts_) bytes_.push_back(3 * c + 1);
    sum_ = data_of(world.rank(), size);
    backwards_ = data_of(world.size() - 1 - world.rank(), size);  // rank r of the reversed communicator gives data r
    scattered_ = data_of(world.rank(), static_cast<size_t>(begin(counts_, n_)));
    piece_.resize(static_cast<size_t>(counts_[me_]));
    all_.resize(static_cast<size_t>(begin(bytes_, n_)));
    passed_.assign(size, static_cast<std::byte>(me_));
    received_.resize(size);
  }

  void start(Communicator& world, Communicator& reversed, std::vector<RequestPtr>& requests) {
    const auto own = std::span(all_).subspan(static_cast<size_t>(begin(bytes_, me_)), static_cast<size_t>(bytes_[me_]));
    std::fill(own.begin(), own.end(), static_cast<std::byte>(me_ + 10 * number_));
    requests.push_back(world.all_reduce_async(sum_, ReduceOp::sum));
    requests.push_back(reversed.all_reduce_async(backwards_, ReduceOp::sum));
    requests.push_back(world.reduce_scatter_async(scattered_, piece_, counts_, ReduceOp::sum));
    requests.push_back(world.all_gather_async(own, all_, bytes_));
    if (n_ == 1) return;
    requests.push_back(world.receive(received_, static_cast<int>((me_ + n_ - 1) % n_), 3));
    requests.push_back(world.send(passed_, static_cast<int>((me_ + 1) % n_), 3));
  }

  void check() const {
    const int ranks = static_cast<int>(n_);
    EXPECT_EQ(sum_, ordered_sum(ranks, sum_.size()));
    EXPECT_EQ(backwards_, ordered_sum(ranks, sum_.size()));
    const auto expected = ordered_sum(ranks, scattered_.size());
    EXPECT_TRUE(std::equal(piece_.begin(), piece_.end(), expected.begin() + begin(counts_, me_)));
    EXPECT_EQ(scattered_, data_of(static_cast<int>(me_), scattered_.size()));
    std::vector<std::byte> gathered;
    for (size_t r = 0; r < n_; ++r) {
      gathered.insert(gathered.end(), static_cast<size_t>(bytes_[r]), static_cast<std::byte>(r + 10 * number_));
    }
    EXPECT_EQ(all_, gathered);
    if (n_ == 1) return;
    EXPECT_EQ(received_, std::vector<std::byte>(received_.size(), static_cast<std::byte>((me_ + n_ - 1) % n_)));
  }

 private:
  static size_t rank_of(const Communicator& world) { return static_cast<size_t>(world.rank()); }
  static int64_t begin(const std::vector<int64_t>& counts, size_t rank) {
    return std::accumulate(counts.begin(), counts.begin() + static_cast<std::ptrdiff_t>(rank), int64_t{0});
  }

  size_t n_, me_, number_;
  std::vector<int64_t> counts_, bytes_;
  std::vector<float> sum_, backwards_, scattered_, piece_;
  std::vector<std::byte> all_, passed_, received_;
};

}  // namespace

void everything_in_flight_at_once(Communicator& world) {
  auto reversed = world.split(0, -world.rank(), "reversed");
  std::vector<Round> rounds;
  for (size_t i = 0; i < 4; ++i) rounds.emplace_back(world, i);
  std::vector<RequestPtr> requests;
  for (size_t i = 0; i < rounds.size(); ++i) {
    rounds[i].start(world, *reversed, requests);
    for (size_t k = 0; k < static_cast<size_t>(world.rank()) + i % 3; ++k) world.progress();
  }
  int64_t one = 1;
  reversed->all_reduce(std::span<int64_t>(&one, 1), ReduceOp::sum);
  EXPECT_EQ(one, world.size());
  std::mt19937 order(static_cast<uint32_t>(world.rank()));  // another order on every rank
  std::shuffle(requests.begin(), requests.end(), order);
  for (const auto& request : requests) request->wait();
  for (const Round& round : rounds) round.check();
}

void every_type_and_operation_is_ordered(Communicator& world) {
  const auto check = [&world]<typename T>(T, ReduceOp op, size_t count) {
    std::vector<T> data(count), expected;
    for (int r = 0; r < world.size(); ++r) {
      const auto x = data_of(r, count);
      std::vector<T> theirs(count);
      for (size_t i = 0; i < count; ++i) theirs[i] = static_cast<T>(x[i] * (1.0F + 0.1F * static_cast<float>(i % 7)));
      if (r == 0) expected = theirs;
      for (size_t i = 0; r > 0 && i < count; ++i) {
        const T a = expected[i], b = theirs[i];
        expected[i] = op == ReduceOp::sum ? a + b : op == ReduceOp::max ? std::max(a, b) : std::min(a, b);
      }
      if (r == world.rank()) data = theirs;
    }
    world.all_reduce(std::span<T>(data), op);
    EXPECT_EQ(data, expected) << count << " of " << sizeof(T) << " bytes, operation " << static_cast<int>(op);
  };
  for (const auto op : {ReduceOp::sum, ReduceOp::max, ReduceOp::min}) {
    for (const size_t count : {1UL, 65UL, 1000UL, 10007UL}) {
      check(float{}, op, count);
      check(double{}, op, count);
      check(int64_t{}, op, count);
    }
  }
}

void nan_survives_max_and_min(Communicator& world) {
  for (const auto op : {ReduceOp::max, ReduceOp::min, ReduceOp::sum}) {
    for (int bad = 0; bad < world.size(); ++bad) {
      std::vector<float> x(500, world.rank() == bad ? std::numeric_limits<float>::quiet_NaN() : 1.0F);
      for (const size_t count : {1UL, x.size()}) world.all_reduce(std::span<float>(x).first(count), op);
      for (const float v : x) EXPECT_TRUE(std::isnan(v));
    }
  }
}

void broadcast_from_every_root(Communicator& world) {
  for (int root = 0; root < world.size(); ++root) {
    for (const size_t bytes : {1UL, 100000UL}) {
      std::vector<std::byte> data(bytes, static_cast<std::byte>(world.rank() == root ? 100 + root : 0));
      world.broadcast(data, root);
      EXPECT_EQ(data, std::vector<std::byte>(bytes, static_cast<std::byte>(100 + root)));
    }
  }
}

void all_gather_of_uneven_parts(Communicator& world) {
  std::vector<int64_t> counts;
  std::vector<std::byte> expected;
  for (int r = 0; r < world.size(); ++r) {
    counts.push_back(r == 1 ? 0 : 5000 * (r + 1));
    expected.insert(expected.end(), static_cast<size_t>(counts.back()), static_cast<std::byte>(r + 1));
  }
  const std::vector<std::byte> mine(static_cast<size_t>(counts[static_cast<size_t>(world.rank())]),
                                    static_cast<std::byte>(world.rank() + 1));
  std::vector<std::byte> all(expected.size());
  world.all_gather(mine, all, counts);
  EXPECT_EQ(all, expected);
}

void reduce_scatter_is_ordered(Communicator& world) {
  const auto n = static_cast<size_t>(world.size());
  const auto me = static_cast<size_t>(world.rank());
  // Rank 1 gets nothing; the other pieces differ in size. The second round of requests runs in place.
  for (const int64_t unit : {0, 1, 100, 80000 / world.size()}) {
    std::vector<int64_t> counts;
    for (size_t r = 0; r < n; ++r) counts.push_back(r == 1 ? 0 : unit * static_cast<int64_t>(r + 1));
    size_t total = 0;
    size_t begin = 0;
    for (size_t r = 0; r < n; ++r) {
      if (r < me) begin += static_cast<size_t>(counts[r]);
      total += static_cast<size_t>(counts[r]);
    }
    const auto expected = ordered_sum(world.size(), total);
    std::vector<float> data = data_of(world.rank(), total);
    std::vector<float> mine(static_cast<size_t>(counts[me]));
    auto first = world.reduce_scatter_async(data, mine, counts, ReduceOp::sum);
    std::vector<float> again = data;
    const auto place = std::span<float>(again).subspan(begin, mine.size());
    auto second = world.reduce_scatter_async(again, place, counts, ReduceOp::sum);
    second->wait();
    first->wait();
    EXPECT_TRUE(std::equal(mine.begin(), mine.end(), expected.begin() + static_cast<std::ptrdiff_t>(begin))) << unit;
    EXPECT_TRUE(std::equal(mine.begin(), mine.end(), place.begin())) << unit;
    EXPECT_EQ(data, data_of(world.rank(), total));
  }
}

void all_to_all_of_uneven_parts(Communicator& world) {
  // Rank s sends (7 s + 3 r) mod 5 thousand bytes of value 16 s + r to rank r; some pieces are empty.
  const auto bytes_from = [](int s, int r) { return static_cast<int64_t>((7 * s + 3 * r) % 5) * 1000; };
  std::vector<std::byte> out, expected;
  std::vector<int64_t> out_counts, in_counts;
  for (int r = 0; r < world.size(); ++r) {
    out_counts.push_back(bytes_from(world.rank(), r));
    in_counts.push_back(bytes_from(r, world.rank()));
    out.insert(out.end(), static_cast<size_t>(out_counts.back()), static_cast<std::byte>(16 * world.rank() + r));
    expected.insert(expected.end(), static_cast<size_t>(in_counts.back()),
                    static_cast<std::byte>(16 * r + world.rank()));
  }
  std::vector<std::byte> in(expected.size());
  auto request = world.all_to_all_async(out, out_counts, in, in_counts);
  world.barrier();
  request->wait();
  EXPECT_EQ(in, expected);
}

void messages_keep_their_order(Communicator& world) {
  const int n = world.size();
  if (n == 1) return;
  const int right = (world.rank() + 1) % n;
  const int left = (world.rank() + n - 1) % n;
  std::vector<std::vector<int64_t>> out;
  std::vector<std::vector<int64_t>> in;
  for (int64_t i = 0; i < 20; ++i) {
    out.emplace_back(static_cast<size_t>(1 + 4000 * (i % 3)), 1000 * world.rank() + i);
    in.emplace_back(out.back().size());
  }
  std::vector<RequestPtr> requests;
  for (size_t i = 0; i < 20; ++i) {
    requests.push_back(world.receive(std::as_writable_bytes(std::span(in[i])), left, 7));
    requests.push_back(world.send(std::as_bytes(std::span(out[i])), right, 7));
  }
  for (auto& r : requests) r->wait();
  for (size_t i = 0; i < 20; ++i) {
    EXPECT_EQ(in[i], std::vector<int64_t>(in[i].size(), 1000 * left + static_cast<int64_t>(i)));
  }
}

void splits_separate_traffic(Communicator& world) {
  auto half = world.split(world.rank() % 2, -world.rank(), "half");  // members in reverse order
  EXPECT_EQ(half->name(), "half");
  const int members = (world.size() + 1 - world.rank() % 2) / 2;
  EXPECT_EQ(half->size(), members);
  EXPECT_EQ(half->rank(), members - 1 - world.rank() / 2);
  int64_t sum = 1 + world.rank();
  half->all_reduce(std::span<int64_t>(&sum, 1), ReduceOp::sum);
  int64_t expected = 0;
  for (int r = world.rank() % 2; r < world.size(); r += 2) expected += 1 + r;
  EXPECT_EQ(sum, expected);
  auto alone = half->split(half->rank(), 0, "alone");
  EXPECT_EQ(alone->size(), 1);
  alone->barrier();
}

void flight_log_records_operations(Communicator& world) {
  const uint64_t before = world.flight_log().operations();
  world.barrier();
  std::vector<float> data(600);
  auto request = world.all_reduce_async(data, ReduceOp::sum);
  request->wait();
  const auto last = world.flight_log().last_finished();
  ASSERT_TRUE(last);
  EXPECT_EQ(world.flight_log().operations(), before + 2);
  EXPECT_EQ(last->sequence, before + 2);
  EXPECT_STREQ(last->operation, "all_reduce_async");
  EXPECT_EQ(last->count, 600);
  EXPECT_EQ(last->axis, world.name());
  EXPECT_NE(std::string(last->site.file_name()).find("comm_cases.cc"), std::string::npos);
  EXPECT_NE(to_string(*last, last->posted).find("600 x f32, tests/parallel/comm_cases.cc:"), std::string::npos);
}

void waiting_is_counted(Communicator& world) {
  constexpr double kLate = 60.0;  // ms; the others may come a little late themselves
  const bool late = world.rank() == world.size() - 1;
  world.barrier();
  double before = world.waited_ms();
  if (late) std::this_thread::sleep_for(std::chrono::duration<double, std::milli>(kLate));
  world.barrier();
  if (!late) {
    EXPECT_GE(world.waited_ms() - before, kLate / 3.0);
  }
  // Started early and finished meanwhile: nothing is left to wait for.
  std::vector<float> data(4096, 1.0F);
  const RequestPtr request = world.all_reduce_async(data, ReduceOp::sum);
  while (!request->test()) std::this_thread::yield();
  before = world.waited_ms();
  request->wait();
  EXPECT_EQ(world.waited_ms(), before);
  // The same clock for every communicator of a rank.
  const auto other = world.split(0, world.rank(), "other");
  EXPECT_EQ(other->waited_ms(), world.waited_ms());
}

void errors_become_global(Communicator& world) {
  const int last = world.size() - 1;
  together(world, [] {});
  try {
    together(world, [&] {
      if (world.rank() == last) fail(ErrorKind::data, "corpus.h5: no such file");
    });
    ADD_FAILURE() << "nobody learned of the error";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::data);
    const std::string prefix = world.size() > 1 ? "rank " + std::to_string(last) + ": " : "";
    EXPECT_EQ(std::string(e.what()), prefix + "corpus.h5: no such file");
  }
  int64_t flags[] = {world.rank() == last ? 1 : 0, -1};
  agree(world, flags);
  EXPECT_EQ(flags[0], 1);
  EXPECT_EQ(flags[1], -1);
}

void replicas_are_compared(Communicator& world) {
  std::vector<float> a{1.0F, 2.0F};
  std::vector<float> b{3.0F, 4.0F, 5.0F};
  const std::vector<ReplicaTensor> tensors{{"layers.0.weight", std::as_bytes(std::span(a))},
                                           {"layers.1.weight", std::as_bytes(std::span(b))}};
  check_replicas(world, tensors);
  if (world.size() == 1) return;
  const int bad = world.size() - 1;
  if (world.rank() == bad) b[1] = std::nextafter(b[1], 10.0F);
  try {
    check_replicas(world, tensors);
    ADD_FAILURE() << "a flipped bit went unnoticed";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::diverged);
    const std::string text = e.what();
    EXPECT_NE(text.find("'layers.1.weight'"), std::string::npos) << text;
    EXPECT_NE(text.find("rank " + std::string(world.size() == 2 ? "0" : std::to_string(bad)) + " (hash"),
              std::string::npos)
        << text;
  }
}

}  // namespace farsight::testing
