// SPDX-License-Identifier: Apache-2.0
// What goes wrong between devices, on the emulated one: a link that fails, ranks that call different things, and order
// that would hang. An error names the axis, the ranks and the operation.
#include <algorithm>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/cuda/library.h"
#include "kernels/error.h"
#include "tests/parallel/comm_paths.h"
#include "tests/parallel/device_ranks.h"

namespace farsight::testing {
namespace {

class Setting {
 public:
  Setting(const char* name, const char* value) : name_(name) { setenv(name, value, 1); }
  ~Setting() { unsetenv(name_); }
  Setting(const Setting&) = delete;
  Setting& operator=(const Setting&) = delete;

 private:
  const char* name_;
};

class NcclFailure : public ::testing::Test {
 protected:
  void SetUp() override {
    if (cuda_library().table == nullptr) GTEST_SKIP() << cuda_library().reason;
    if (!device_is_emulated()) GTEST_SKIP() << "a real device would hang";
  }
};

void expect_parts(const std::string& text, const std::vector<std::string>& parts) {
  for (const std::string& part : parts) EXPECT_NE(text.find(part), std::string::npos) << part << " in: " << text;
}

// The error of every rank; the ranks end one after the other as after an error that they agreed on.
std::vector<std::string> errors_of(int ranks,
                                   const std::function<void(Communicator& world, Communicator& host)>& body) {
  std::vector<std::string> errors(static_cast<size_t>(ranks));
  run_in_process(ranks, [&](Communicator& host) {
    errors[static_cast<size_t>(host.rank())] = error_of([&] {
      CudaDevice device(0);
      const CudaScope scope(device);
      const auto world = make_nccl_communicator(host, device);
      body(*world, host);
    });
  });
  return errors;
}

TEST_F(NcclFailure, ABrokenLinkEndsTheWaitForTheDevice) {
  const Setting breaks("FARSIGHT_EMULATION_BREAKS", "1");
  const auto errors = errors_of(3, [](Communicator& world, Communicator&) {
    const Tensor data = to_device({1.0, 2.0}, DType::f32);
    world.all_reduce_tensor(data, ReduceOp::sum)->wait();
    EXPECT_EQ(to_host(data), (std::vector<double>{3.0, 6.0}));
    const Tensor later = to_device({1.0}, DType::f32);
    world.all_reduce_tensor(later, ReduceOp::max)->wait();
    to_host(later);
    ADD_FAILURE() << "went on";
  });
  // A rank may hear of it before it has started the operation that others name.
  const std::string operation = "First unfinished operation: all_reduce #";
  int named = 0;
  for (const auto& error : errors) {
    expect_parts(error, {"axis world among ranks 0, 1, 2", "injected: link down", "resume"});
    if (error.find(operation) == std::string::npos) {
      expect_parts(error, {"First unfinished operation: none"});
    } else {
      expect_parts(error, {"axis world (device) #2, 1 x f32", "nccl_failure_test.cc"});
      ++named;
    }
  }
  EXPECT_GT(named, 0);
}

TEST_F(NcclFailure, AfterAnErrorNothingIsStarted) {
  const Setting breaks("FARSIGHT_EMULATION_BREAKS", "0");
  errors_of(2, [](Communicator& world, Communicator&) {
    const auto part = world.split(0, world.rank(), "tp");
    const Tensor data = to_device({1.0}, DType::f32);
    RequestPtr request = part->all_reduce_tensor(data, ReduceOp::sum);
    const std::string first = error_of([&] {
      while (!request->test()) {
      }
    });
    expect_parts(first, {"axis tp", "ranks 0, 1"});
    expect_parts(error_of([&] { request->wait(); }), {"axis tp"});
    expect_parts(error_of([&] { part->all_reduce_now(data, ReduceOp::sum); }), {"axis tp"});
  });
}

TEST_F(NcclFailure, DifferentCallsAreNoticed) {
  const auto counts = errors_of(2, [](Communicator& world, Communicator&) {
    const Tensor data = to_device(std::vector<double>(world.rank() == 0 ? 4 : 5), DType::f32);
    world.all_reduce_now(data, ReduceOp::sum);
    to_host(data);
  });
  expect_parts(counts[0] + counts[1], {"one rank calls all_reduce", "rank"});
  const auto operations = errors_of(2, [](Communicator& world, Communicator&) {
    const Tensor data = to_device(std::vector<double>(4), DType::f32);
    world.all_reduce_now(data, world.rank() == 0 ? ReduceOp::sum : ReduceOp::max);
    to_host(data);
  });
  expect_parts(operations[0] + operations[1], {"one rank calls all_reduce"});
  const auto messages = errors_of(2, [](Communicator& world, Communicator&) {
    const Tensor out = to_device(std::vector<double>(4), DType::f32);
    const Tensor in = to_device(std::vector<double>(world.rank() == 0 ? 4 : 3), DType::f32);
    const TensorTransfer transfers[] = {{TensorTransfer::Direction::send, out, 1 - world.rank()},
                                        {TensorTransfer::Direction::receive, in, 1 - world.rank()}};
    world.exchange_tensors(transfers, 0)->wait();
    to_host(in);
  });
  expect_parts(messages[0] + messages[1], {"sends 16 bytes", "expects 12"});
}

TEST_F(NcclFailure, ADifferentOrderOfGroupsIsNoticed) {
  for (const bool same : {true, false}) {
    const auto errors = errors_of(2, [same](Communicator& world, Communicator&) {
      const auto part = world.split(0, world.rank(), "tp");
      Communicator* const order[] = {&world, part.get()};
      const bool turned = !same && world.rank() == 1;
      const Tensor a = to_device({1.0}, DType::f32), b = to_device({2.0}, DType::f32);
      const RequestPtr first = order[turned ? 1 : 0]->all_reduce_tensor(turned ? b : a, ReduceOp::sum);
      const RequestPtr second = order[turned ? 0 : 1]->all_reduce_tensor(turned ? a : b, ReduceOp::sum);
      first->wait();
      second->wait();
      EXPECT_EQ(to_host(a)[0] + to_host(b)[0], 6.0);
    });
    if (same) {
      EXPECT_EQ(errors[0] + errors[1], "(no error)(no error)");
    } else {
      expect_parts(errors[0] + errors[1], {"has started other operations of its groups before it"});
    }
  }
}

TEST_F(NcclFailure, ARankThatDoesNotComeIsAHang) {
  const Setting patience("FARSIGHT_EMULATION_PATIENCE_MS", "200");
  const auto errors = errors_of(2, [](Communicator& world, Communicator& host) {
    const Tensor data = to_device({1.0}, DType::f32);
    if (world.rank() == 0) {
      world.all_reduce_now(data, ReduceOp::sum);
      const CudaBackend& table = cuda_device().backend();
      EXPECT_NE(table.stream_synchronize(cuda_device().stream()), 0);
      expect_parts(table.message(), {"the device hangs"});
    }
    host.barrier();
    if (world.rank() == 1) world.all_reduce_now(data, ReduceOp::sum);  // so that rank 0's stream ends
  });
  for (const auto& error : errors) EXPECT_EQ(error, "(no error)");
}

// Two ranks that first receive and then send wait for each other; in one group they do not.
TEST_F(NcclFailure, MessagesOutsideAGroupWaitForEachOther) {
  const Setting patience("FARSIGHT_EMULATION_PATIENCE_MS", "200");
  for (const bool grouped : {true, false}) {
    CudaRanksId id{};
    ASSERT_EQ(cuda_library().table->ranks_id(&id), 0);
    run_in_process(2, [&](Communicator& host) {
      CudaDevice device(0);
      const CudaScope scope(device);
      const CudaBackend& table = device.backend();
      CudaRanks ranks = nullptr;
      const CudaRanksOptions options{0, 10000};
      ASSERT_EQ(table.ranks_create(&id, host.rank(), 2, &options, &ranks), 0);
      const Tensor out = to_device({1.0 + host.rank()}, DType::f32), in = Tensor::zeros({1});
      const CudaTransfer both[] = {{in.raw(), 4, 1 - host.rank(), 0}, {out.raw(), 4, 1 - host.rank(), 1}};
      const CudaTransfers together{ranks, 2, both}, first{ranks, 1, both}, second{ranks, 1, both + 1};
      if (grouped) {
        ASSERT_EQ(table.transfer(&together, device.stream()), 0);
      } else {
        ASSERT_EQ(table.transfer(&first, device.stream()), 0);
        ASSERT_EQ(table.transfer(&second, device.stream()), 0);
      }
      EXPECT_EQ(table.stream_synchronize(device.stream()) == 0, grouped);
      if (grouped) {
        EXPECT_EQ(to_host(in), std::vector<double>{2.0 - host.rank()});
      } else {
        expect_parts(table.message(), {"the device hangs"});
      }
      host.barrier();
      EXPECT_EQ(table.ranks_abort(ranks), 0);
      EXPECT_NE(table.transfer(&together, device.stream()), 0) << "after an abort";
      expect_parts(table.message(), {"aborted"});
    });
  }
}

}  // namespace
}  // namespace farsight::testing
