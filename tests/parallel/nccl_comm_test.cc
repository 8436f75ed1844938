// SPDX-License-Identifier: Apache-2.0
// Tensors between devices, on the emulated one with threads as ranks: values of every collective against sums formed
// here, what may overlap what, and what is left alone. Values are small integers, exact in every type and order.
#include "parallel/nccl_comm.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/cuda/library.h"
#include "kernels/error.h"
#include "parallel/flight_log.h"
#include "tests/parallel/device_ranks.h"

namespace farsight::testing {
namespace {

using Values = std::vector<double>;
constexpr DType kTypes[] = {DType::f32, DType::bf16};
using Direction = TensorTransfer::Direction;

class NcclComm : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    if (cuda_library().table == nullptr) GTEST_SKIP() << cuda_library().reason;
    if (GetParam() > 1 && !device_is_emulated()) GTEST_SKIP() << "NCCL refuses ranks that share a device";
  }
  static void run(const std::function<void(Communicator& world, Communicator& host)>& body) {
    on_devices(GetParam(), body);
  }
};
INSTANTIATE_TEST_SUITE_P(Ranks, NcclComm, ::testing::Values(1, 2, 3, 4));

// What any rank contributes: between -16 and 16.
Values data_of(int rank, int64_t count) {
  Values values;
  for (int64_t i = 0; i < count; ++i) values.push_back(static_cast<double>((rank * 29 + i * 7) % 33 - 16));
  return values;
}

Values reduced(int ranks, int64_t count, ReduceOp op) {
  Values result = data_of(0, count);
  for (int r = 1; r < ranks; ++r) {
    const Values x = data_of(r, count);
    for (size_t i = 0; i < x.size(); ++i) {
      result[i] = op == ReduceOp::sum   ? result[i] + x[i]
                  : op == ReduceOp::max ? std::max(result[i], x[i])
                                        : std::min(result[i], x[i]);
    }
  }
  return result;
}

Values slice(const Values& values, int64_t begin, int64_t count) {
  return {values.begin() + begin, values.begin() + begin + count};
}

Values joined(const std::vector<Values>& parts) {
  Values all;
  for (const Values& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

// Pieces of the ranks: equal, uneven with an empty one, and all but one empty.
std::vector<std::vector<int64_t>> piece_counts(int ranks) {
  std::vector<int64_t> equal(static_cast<size_t>(ranks), 40), uneven, one(static_cast<size_t>(ranks), 0);
  for (int r = 0; r < ranks; ++r) uneven.push_back(r == 1 ? 0 : 17 + 100 * r);
  one.back() = 9;
  return {equal, uneven, one};
}
int64_t total(const std::vector<int64_t>& counts) { return std::accumulate(counts.begin(), counts.end(), int64_t{0}); }
int64_t begin_of(const std::vector<int64_t>& counts, int r) {
  return std::accumulate(counts.begin(), counts.begin() + r, int64_t{0});
}

TEST_P(NcclComm, AllReduceEqualsTheHost) {
  run([](Communicator& world, Communicator&) {
    for (const DType type : kTypes) {
      for (const ReduceOp op : {ReduceOp::sum, ReduceOp::max, ReduceOp::min}) {
        for (const int64_t count : {0, 1, 3, 1000}) {
          const Tensor data = to_device(data_of(world.rank(), count), type);
          world.all_reduce_tensor(data, op)->wait();
          EXPECT_EQ(to_host(data), reduced(world.size(), count, op)) << to_string(type) << " " << count;
        }
      }
    }
  });
}

TEST_P(NcclComm, AllReduceNowTakesDoubles) {
  run([](Communicator& world, Communicator&) {
    for (const DType type : {DType::f64, DType::f32}) {
      const Tensor data = to_device(data_of(world.rank(), 77), type);
      world.all_reduce_now(data, ReduceOp::sum);
      EXPECT_EQ(to_host(data), reduced(world.size(), 77, ReduceOp::sum));
    }
    const Tensor third = to_device({1.0 / 3.0}, DType::f64);  // no float on the way
    world.all_reduce_now(third, ReduceOp::max);
    EXPECT_EQ(to_host(third), Values{1.0 / 3.0});
  });
}

TEST_P(NcclComm, ReduceScatterOfUnevenPieces) {
  run([](Communicator& world, Communicator&) {
    for (const DType type : kTypes) {
      for (const auto& counts : piece_counts(world.size())) {
        for (const bool in_place : {false, true}) {
          const int64_t begin = begin_of(counts, world.rank()), own = counts[static_cast<size_t>(world.rank())];
          const Values given = data_of(world.rank(), total(counts));
          const Tensor data = to_device(given, type);
          const Tensor mine = in_place ? data.narrow(begin, own) : to_device(Values(static_cast<size_t>(own)), type);
          world.reduce_scatter_tensor(data, mine, counts, ReduceOp::sum)->wait();
          const Values sum = slice(reduced(world.size(), total(counts), ReduceOp::sum), begin, own);
          EXPECT_EQ(to_host(mine), sum) << to_string(type);
          Values rest = given;  // the other pieces are only read
          if (in_place) std::copy(sum.begin(), sum.end(), rest.begin() + begin);
          EXPECT_EQ(to_host(data), rest) << to_string(type);
        }
      }
    }
  });
}

TEST_P(NcclComm, AllGatherOfUnevenPieces) {
  run([](Communicator& world, Communicator&) {
    for (const DType type : {DType::f32, DType::bf16, DType::f64}) {
      for (const auto& counts : piece_counts(world.size())) {
        std::vector<Values> pieces;
        for (int r = 0; r < world.size(); ++r) pieces.push_back(data_of(r, counts[static_cast<size_t>(r)]));
        const Values& own = pieces[static_cast<size_t>(world.rank())];
        for (const bool in_place : {false, true}) {
          Values before(static_cast<size_t>(total(counts)), -1.0);
          const int64_t begin = begin_of(counts, world.rank());
          if (in_place) std::copy(own.begin(), own.end(), before.begin() + begin);
          const Tensor all = to_device(before, type);
          const Tensor mine =
              in_place ? all.narrow(begin, counts[static_cast<size_t>(world.rank())]) : to_device(own, type);
          world.all_gather_tensor(mine, all, counts)->wait();
          EXPECT_EQ(to_host(all), joined(pieces)) << to_string(type);
        }
      }
    }
  });
}

// From rank s to rank r: (s + 2 r) mod 4 times 5 elements, so some are empty.
int64_t sent(int s, int r) { return (s + 2 * r) % 4 * 5; }

TEST_P(NcclComm, AllToAllOfUnevenPieces) {
  run([](Communicator& world, Communicator&) {
    const int n = world.size(), me = world.rank();
    for (const DType type : kTypes) {
      std::vector<int64_t> out_counts, in_counts;
      std::vector<Values> out, in;
      for (int r = 0; r < n; ++r) {
        out_counts.push_back(sent(me, r));
        in_counts.push_back(sent(r, me));
        out.push_back(data_of(me * 4 + r, sent(me, r)));
        in.push_back(data_of(r * 4 + me, sent(r, me)));
      }
      const Tensor arrived = to_device(Values(static_cast<size_t>(total(in_counts))), type);
      world.all_to_all_tensor(to_device(joined(out), type), out_counts, arrived, in_counts)->wait();
      EXPECT_EQ(to_host(arrived), joined(in)) << to_string(type);
    }
  });
}

TEST_P(NcclComm, MessagesKeepTheirOrder) {
  run([](Communicator& world, Communicator&) {
    const int n = world.size(), me = world.rank(), right = (me + 1) % n, left = (me + n - 1) % n;
    if (n == 1) return;
    for (const DType type : kTypes) {
      std::vector<Tensor> out, in;
      std::vector<TensorTransfer> transfers;
      for (int i = 0; i < 3; ++i) {  // three messages to one neighbour, the second empty
        const int64_t count = i == 1 ? 0 : 50 + i;
        out.push_back(to_device(data_of(10 * me + i, count), type));
        in.push_back(to_device(Values(static_cast<size_t>(count)), type));
        transfers.push_back({Direction::send, out.back(), right});
        transfers.push_back({Direction::receive, in.back(), left});
      }
      const RequestPtr first = world.exchange_tensors(transfers, 1);
      const Tensor back = to_device(Values(8), type);
      const TensorTransfer reply[] = {{Direction::send, to_device(data_of(me, 8), type), left},
                                      {Direction::receive, back, right}};
      world.exchange_tensors(reply, 2)->wait();
      first->wait();
      for (int i = 0; i < 3; ++i) {
        EXPECT_EQ(to_host(in[static_cast<size_t>(i)]), data_of(10 * left + i, i == 1 ? 0 : 50 + i));
      }
      EXPECT_EQ(to_host(back), data_of(right, 8));
    }
  });
}

TEST_P(NcclComm, SeveralInFlightAreWaitedForInAnyOrder) {
  run([](Communicator& world, Communicator&) {
    const int n = world.size();
    const std::vector<int64_t> counts(static_cast<size_t>(n), 30);
    std::vector<Tensor> sums;
    std::vector<RequestPtr> requests;
    for (int i = 0; i < 5; ++i) {
      sums.push_back(to_device(data_of(world.rank() + i, 200 + i), DType::f32));
      requests.push_back(world.all_reduce_tensor(sums.back(), ReduceOp::max));
    }
    const Tensor all = to_device(Values(static_cast<size_t>(30 * n)), DType::f32);
    requests.push_back(world.all_gather_tensor(to_device(data_of(world.rank(), 30), DType::f32), all, counts));
    std::rotate(requests.begin(), requests.begin() + world.rank(), requests.end());
    for (const RequestPtr& request : requests) request->wait();
    for (int i = 0; i < 5; ++i) {
      Values most = data_of(i, 200 + i);
      for (int r = 1; r < n; ++r) {
        const Values x = data_of(r + i, 200 + i);
        for (size_t k = 0; k < x.size(); ++k) most[k] = std::max(most[k], x[k]);
      }
      EXPECT_EQ(to_host(sums[static_cast<size_t>(i)]), most);
    }
    std::vector<Values> parts;
    for (int r = 0; r < n; ++r) parts.push_back(data_of(r, 30));
    EXPECT_EQ(to_host(all), joined(parts));
  });
}

// The host orders nothing: what is computed before a call is seen by it, what is computed after wait() sees its result,
// and memory that is given up meanwhile is not used again too early.
TEST_P(NcclComm, ArithmeticAndTransfersAreOrderedOnTheDevice) {
  run([](Communicator& world, Communicator&) {
    const double n = world.size();
    const Tensor data = Tensor::empty({500}), doubled = Tensor::zeros({500});
    fill(data, 3.0F);
    add_rows(data, data);
    const RequestPtr sum = world.all_reduce_tensor(data, ReduceOp::sum);
    const Tensor meanwhile = Tensor::zeros({500});
    fill(meanwhile, 9.0F);
    sum->wait();
    add_rows(data, doubled);
    add_rows(data, doubled);
    fill(data, -1.0F);
    EXPECT_EQ(to_host(doubled), Values(500, 12.0 * n));
    EXPECT_EQ(to_host(meanwhile), Values(500, 9.0));
  });
}

TEST_P(NcclComm, ARequestKeepsItsTensors) {
  run([](Communicator& world, Communicator&) {
    const int n = world.size();
    const std::vector<int64_t> counts(static_cast<size_t>(n), 300);
    const Tensor all = Tensor::empty({300 * n});
    Tensor mine = Tensor::empty({300});
    fill(mine, 5.0F);
    const RequestPtr request = world.all_gather_tensor(mine, all, counts);
    mine = Tensor();
    const Tensor other = Tensor::empty({300});  // the same memory, if it were free
    fill(other, 7.0F);
    request->wait();
    EXPECT_EQ(to_host(all), Values(static_cast<size_t>(300 * n), 5.0));
    EXPECT_EQ(to_host(other), Values(300, 7.0));
  });
}

TEST_P(NcclComm, TestBecomesTrueWithoutWaiting) {
  run([](Communicator& world, Communicator&) {
    const Tensor data = to_device(data_of(world.rank(), 64), DType::f32);
    const RequestPtr request = world.all_reduce_tensor(data, ReduceOp::sum);
    while (!request->test()) std::this_thread::yield();
    EXPECT_EQ(to_host(data), reduced(world.size(), 64, ReduceOp::sum));
  });
}

// One rank waits for its device while the other waits for it in host memory: the devices go on by themselves.
TEST_P(NcclComm, AHostThatWaitsElsewhereDoesNotHoldUpItsDevice) {
  run([](Communicator& world, Communicator& host) {
    const Tensor data = to_device(data_of(world.rank(), 64), DType::f32);
    world.all_reduce_tensor(data, ReduceOp::sum)->wait();
    add_rows(data, data);
    world.all_reduce_tensor(data, ReduceOp::max)->wait();
    if (world.rank() != 0) host.barrier();
    Values expected = reduced(world.size(), 64, ReduceOp::sum);
    for (double& v : expected) v *= 2.0;
    EXPECT_EQ(to_host(data), expected);
    if (world.rank() == 0) host.barrier();
  });
}

TEST_P(NcclComm, SplitsSeparateTraffic) {
  run([](Communicator& world, Communicator&) {
    // Even and odd ranks; keys in reverse order. Of three ranks, one is alone.
    const int me = world.rank(), colour = me % 2 - 1;
    const auto part = world.split(colour, -me, "half");
    std::vector<int> members;
    for (int r = world.size() - 1; r >= 0; --r) {
      if (r % 2 == me % 2) members.push_back(r);
    }
    ASSERT_EQ(part->size(), static_cast<int>(members.size()));
    ASSERT_EQ(members[static_cast<size_t>(part->rank())], me);
    const Tensor everybody = to_device({1.0}, DType::f32);
    const RequestPtr outer = world.all_reduce_tensor(everybody, ReduceOp::sum);
    std::vector<Values> parts;
    for (const int r : members) parts.push_back(data_of(r, 11));
    const Tensor all = to_device(Values(11 * members.size()), DType::f32);
    const std::vector<int64_t> counts(members.size(), 11);
    part->all_gather_tensor(to_device(data_of(me, 11), DType::f32), all, counts)->wait();
    outer->wait();
    EXPECT_EQ(to_host(all), joined(parts));
    EXPECT_EQ(to_host(everybody), Values{static_cast<double>(world.size())});
    // And once more from the part.
    const auto single = part->split(part->rank(), 0, "alone");
    const Tensor own = to_device({4.0}, DType::f32);
    single->all_reduce_tensor(own, ReduceOp::sum)->wait();
    EXPECT_EQ(to_host(own), Values{4.0});
  });
}

TEST_P(NcclComm, HostMemoryGoesTheOldWay) {
  run([](Communicator& world, Communicator&) {
    const Tensor host = Tensor::zeros({4}, DType::f32, MemoryTag::other, Device::cpu);
    host.data<float>()[0] = 1.0F;
    world.all_reduce_tensor(host, ReduceOp::sum)->wait();
    EXPECT_EQ(host.data<float>()[0], static_cast<float>(world.size()));
    double value = 1.0;
    world.all_reduce(std::span<double>(&value, 1), ReduceOp::sum);
    EXPECT_EQ(value, world.size());
  });
}

TEST_P(NcclComm, TheFlightLogKnowsWhatTheDeviceHasDone) {
  if (GetParam() == 1) return;
  run([](Communicator& world, Communicator&) {
    const Tensor data = to_device(data_of(world.rank(), 10), DType::f32);
    world.all_reduce_tensor(data, ReduceOp::sum)->wait();
    const auto pending = world.flight_log().pending();
    ASSERT_EQ(pending.size(), 1U) << "waited for by the device, not by the host";
    EXPECT_STREQ(pending[0].operation, "all_reduce");
    EXPECT_EQ(pending[0].axis, "world (device)");
    EXPECT_EQ(pending[0].count, 10);
    EXPECT_NE(std::string(pending[0].site.file_name()).find("nccl_comm_test"), std::string::npos);
    cuda_device().synchronize();
    EXPECT_TRUE(world.flight_log().pending().empty());
  });
}

TEST_P(NcclComm, StandingStillIsCounted) {
  if (GetParam() == 1) return;
  static constexpr double kLate_ms = 60.0;
  run([](Communicator& world, Communicator& host) {
    const Tensor data = to_device(data_of(world.rank(), 10), DType::f32);
    host.barrier();
    const double before = world.waited_ms();
    if (world.rank() == 0) std::this_thread::sleep_for(std::chrono::duration<double, std::milli>(kLate_ms));
    world.all_reduce_tensor(data, ReduceOp::sum)->wait();
    cuda_device().synchronize();
    if (world.rank() == 0) {
      EXPECT_LT(world.waited_ms() - before, kLate_ms / 2.0);
    } else {
      EXPECT_GT(world.waited_ms() - before, kLate_ms / 2.0);
    }
  });
}

}  // namespace
}  // namespace farsight::testing
