// SPDX-License-Identifier: Apache-2.0
#include "parallel/nccl_comm.h"

#include <algorithm>
#include <array>
#include <exception>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "kernels/error.h"
#include "parallel/agree.h"
#include "parallel/device_transfers.h"
#include "parallel/flight_log.h"

namespace farsight {
namespace {

constexpr int32_t kOldestVersion = 22700;

bool on_host(const Tensor& t) { return t.device() == Device::cpu; }

CudaReduceOp reduction(ReduceOp op) {
  if (op == ReduceOp::sum) return CudaReduceOp::sum;
  return op == ReduceOp::max ? CudaReduceOp::max : CudaReduceOp::min;
}

std::vector<int64_t> in_bytes(std::span<const int64_t> counts, DType dtype) {
  std::vector<int64_t> bytes(counts.begin(), counts.end());
  for (int64_t& n : bytes) n *= size_of(dtype);
  return bytes;
}

// Piece of rank r, one after another.
std::byte* piece(const Tensor& t, std::span<const int64_t> bytes, size_t r) {
  const auto begin = std::accumulate(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(r), int64_t{0});
  return static_cast<std::byte*>(t.raw()) + begin;
}

// A group that all ranks of `host` make, or none does.
template <class Make>
CudaRanks together_make(Communicator& host, const CudaDevice& device, const Make& make) {
  CudaRanks ranks = nullptr;
  try {
    together(host, [&] { make(&ranks); });
  } catch (...) {
    if (ranks != nullptr) device.backend().ranks_abort(ranks);
    throw;
  }
  return ranks;
}

class FinishedRequest final : public Request {
 public:
  void wait() override {}
  bool test() override { return true; }
};

class NcclCommunicator final : public Communicator {
 public:
  // group: null for one rank, who needs no NCCL. part: the host communicator, if this one owns it.
  NcclCommunicator(Communicator& host, std::unique_ptr<Communicator> part, std::shared_ptr<DeviceTransfers> transfers,
                   std::shared_ptr<DeviceGroup> group, std::vector<int> members)
      : part_(std::move(part)),
        host_(host),
        transfers_(std::move(transfers)),
        group_(std::move(group)),
        members_(std::move(members)) {
    if (group_) transfers_->watch(group_);
  }
  // Now, not when the last transfer is forgotten: so all ranks leave their groups in one order.
  ~NcclCommunicator() override {
    if (group_) group_->leave();
  }

  int rank() const override { return host_.rank(); }
  int size() const override { return host_.size(); }
  const std::string& name() const override { return host_.name(); }

  void barrier(CallSite at) override { host_.barrier(at); }
  void all_reduce(std::span<float> data, ReduceOp op, CallSite at) override { host_.all_reduce(data, op, at); }
  void all_reduce(std::span<double> data, ReduceOp op, CallSite at) override { host_.all_reduce(data, op, at); }
  void all_reduce(std::span<int64_t> data, ReduceOp op, CallSite at) override { host_.all_reduce(data, op, at); }
  RequestPtr all_reduce_async(std::span<float> data, ReduceOp op, CallSite at) override {
    return host_.all_reduce_async(data, op, at);
  }
  void broadcast(std::span<std::byte> data, int root, CallSite at) override { host_.broadcast(data, root, at); }
  void all_gather(std::span<const std::byte> mine, std::span<std::byte> all, std::span<const int64_t> counts,
                  CallSite at) override {
    host_.all_gather(mine, all, counts, at);
  }
  RequestPtr reduce_scatter_async(std::span<const float> data, std::span<float> mine, std::span<const int64_t> counts,
                                  ReduceOp op, CallSite at) override {
    return host_.reduce_scatter_async(data, mine, counts, op, at);
  }
  RequestPtr all_gather_async(std::span<const std::byte> mine, std::span<std::byte> all,
                              std::span<const int64_t> counts, CallSite at) override {
    return host_.all_gather_async(mine, all, counts, at);
  }
  RequestPtr all_to_all_async(std::span<const std::byte> out, std::span<const int64_t> out_counts,
                              std::span<std::byte> in, std::span<const int64_t> in_counts, CallSite at) override {
    return host_.all_to_all_async(out, out_counts, in, in_counts, at);
  }
  RequestPtr send(std::span<const std::byte> data, int to, int tag, CallSite at) override {
    return host_.send(data, to, tag, at);
  }
  RequestPtr receive(std::span<std::byte> data, int from, int tag, CallSite at) override {
    return host_.receive(data, from, tag, at);
  }

  RequestPtr all_reduce_tensor(const Tensor& data, ReduceOp op, CallSite at) override;
  void all_reduce_now(const Tensor& data, ReduceOp op, CallSite at) override;
  RequestPtr reduce_scatter_tensor(const Tensor& data, const Tensor& mine, std::span<const int64_t> counts, ReduceOp op,
                                   CallSite at) override;
  RequestPtr all_gather_tensor(const Tensor& mine, const Tensor& all, std::span<const int64_t> counts,
                               CallSite at) override;
  RequestPtr all_to_all_tensor(const Tensor& out, std::span<const int64_t> out_counts, const Tensor& in,
                               std::span<const int64_t> in_counts, CallSite at) override;
  RequestPtr exchange_tensors(std::span<const TensorTransfer> transfers, int tag, CallSite at) override;
  std::unique_ptr<Communicator> split(int colour, int key, std::string name, CallSite at) override;

  void progress() override {
    host_.progress();
    transfers_->poll();
  }
  double waited_ms() const override { return host_.waited_ms() + transfers_->exposed_ms(); }
  FlightLog& flight_log() override { return host_.flight_log(); }
  [[noreturn]] void abort(int code) override {
    host_.abort(code);
    std::terminate();  // not reached; g++ does not trust a virtual function to keep its promise
  }

 private:
  size_t me() const { return static_cast<size_t>(rank()); }
  FlightEntry entry(const char* operation, const Tensor& of, int64_t count, const CallSite& at);
  void check(const char* operation, const Tensor& t, std::span<const int64_t> counts) const;
  // What the own piece becomes where there is only one.
  RequestPtr copy(const Tensor& from, const Tensor& to);
  RequestPtr transfer(FlightEntry entry, std::vector<Tensor> tensors, std::vector<CudaTransfer> messages);
  CudaRanks split_group(int colour, int key);

  std::unique_ptr<Communicator> part_;
  Communicator& host_;
  std::shared_ptr<DeviceTransfers> transfers_;
  std::shared_ptr<DeviceGroup> group_;
  std::vector<int> members_;  // ranks of the world
  uint64_t operations_ = 0;
};

FlightEntry NcclCommunicator::entry(const char* operation, const Tensor& of, int64_t count, const CallSite& at) {
  FlightEntry entry;
  entry.axis = name() + " (device)";
  entry.axis_sequence = ++operations_;
  entry.operation = operation;
  entry.count = count;
  entry.type = to_string(of.dtype());
  entry.site = at;
  return entry;
}

void NcclCommunicator::check(const char* operation, const Tensor& t, std::span<const int64_t> counts) const {
  const bool negative = std::any_of(counts.begin(), counts.end(), [](int64_t c) { return c < 0; });
  const int64_t total = std::accumulate(counts.begin(), counts.end(), int64_t{0});
  if (!negative && static_cast<int>(counts.size()) == size() && total == t.numel() && t.contiguous()) return;
  fail(ErrorKind::internal, "{} on axis {}: {} counts that sum to {} for {} ranks and a {} tensor {}", operation,
       name(), counts.size(), total, size(), t.contiguous() ? "contiguous" : "strided", to_string(t.shape()));
}

RequestPtr NcclCommunicator::copy(const Tensor& from, const Tensor& to) {
  if (from.raw() != to.raw() && to.bytes() > 0) transfers_->device().copy(from.raw(), to.raw(), to.bytes());
  return std::make_unique<FinishedRequest>();
}

RequestPtr NcclCommunicator::all_reduce_tensor(const Tensor& data, ReduceOp op, CallSite at) {
  if (on_host(data)) return host_.all_reduce_tensor(data, op, at);
  if (!data.contiguous()) fail(ErrorKind::internal, "all_reduce on axis {}: a strided tensor", name());
  if (!group_) return std::make_unique<FinishedRequest>();
  return transfers_->start(group_, entry("all_reduce", data, data.numel(), at), {data},
                           [&](CudaRanks ranks, CudaStream stream) {
                             const CudaAllReduce call{ranks, data.dtype(), reduction(op), data.numel(), data.raw()};
                             return transfers_->device().backend().all_reduce(&call, stream);
                           });
}

void NcclCommunicator::all_reduce_now(const Tensor& data, ReduceOp op, CallSite at) {
  if (on_host(data)) return host_.all_reduce_now(data, op, at);
  all_reduce_tensor(data, op, at)->wait();
}

RequestPtr NcclCommunicator::reduce_scatter_tensor(const Tensor& data, const Tensor& mine,
                                                   std::span<const int64_t> counts, ReduceOp op, CallSite at) {
  if (on_host(data)) return host_.reduce_scatter_tensor(data, mine, counts, op, at);
  check("reduce_scatter", data, counts);
  expect_together("reduce_scatter", {&data, &mine});
  if (!mine.contiguous() || mine.numel() != counts[me()]) {
    fail(ErrorKind::internal, "reduce_scatter on axis {}: {} for an own piece of {}", name(), to_string(mine.shape()),
         counts[me()]);
  }
  if (!group_) return copy(data, mine);
  return transfers_->start(
      group_, entry("reduce_scatter", data, data.numel(), at), {data, mine}, [&](CudaRanks ranks, CudaStream stream) {
        const CudaReduceScatter call{ranks, data.dtype(), reduction(op), counts.data(), data.raw(), mine.raw()};
        return transfers_->device().backend().reduce_scatter(&call, stream);
      });
}

RequestPtr NcclCommunicator::all_gather_tensor(const Tensor& mine, const Tensor& all, std::span<const int64_t> counts,
                                               CallSite at) {
  if (on_host(all)) return host_.all_gather_tensor(mine, all, counts, at);
  check("all_gather", all, counts);
  expect_together("all_gather", {&mine, &all});
  if (!mine.contiguous() || mine.numel() != counts[me()]) {
    fail(ErrorKind::internal, "all_gather on axis {}: {} for an own piece of {}", name(), to_string(mine.shape()),
         counts[me()]);
  }
  if (!group_) return copy(mine, all);
  return transfers_->start(group_, entry("all_gather", all, all.numel(), at), {mine, all},
                           [&](CudaRanks ranks, CudaStream stream) {
                             const auto bytes = in_bytes(counts, all.dtype());
                             const CudaAllGather call{ranks, bytes.data(), mine.raw(), all.raw()};
                             return transfers_->device().backend().all_gather(&call, stream);
                           });
}

RequestPtr NcclCommunicator::transfer(FlightEntry entry, std::vector<Tensor> tensors,
                                      std::vector<CudaTransfer> messages) {
  return transfers_->start(group_, std::move(entry), std::move(tensors), [&](CudaRanks ranks, CudaStream stream) {
    const CudaTransfers call{ranks, static_cast<int64_t>(messages.size()), messages.data()};
    return transfers_->device().backend().transfer(&call, stream);
  });
}

RequestPtr NcclCommunicator::all_to_all_tensor(const Tensor& out, std::span<const int64_t> out_counts, const Tensor& in,
                                               std::span<const int64_t> in_counts, CallSite at) {
  if (on_host(out)) return host_.all_to_all_tensor(out, out_counts, in, in_counts, at);
  check("all_to_all (out)", out, out_counts);
  check("all_to_all (in)", in, in_counts);
  expect_together("all_to_all", {&out, &in});
  if (!group_) return copy(out, in);
  const auto leaving = in_bytes(out_counts, out.dtype()), arriving = in_bytes(in_counts, in.dtype());
  std::vector<CudaTransfer> messages;
  for (size_t r = 0; r < leaving.size(); ++r) {
    messages.push_back({piece(in, arriving, r), arriving[r], static_cast<int32_t>(r), /*sending=*/0});
    messages.push_back({piece(out, leaving, r), leaving[r], static_cast<int32_t>(r), /*sending=*/1});
  }
  return transfer(entry("all_to_all", out, out.numel(), at), {out, in}, std::move(messages));
}

RequestPtr NcclCommunicator::exchange_tensors(std::span<const TensorTransfer> transfers, int tag, CallSite at) {
  const bool host = std::all_of(transfers.begin(), transfers.end(), [](const auto& t) { return on_host(t.tensor); });
  if (host || !group_) return host_.exchange_tensors(transfers, tag, at);
  std::vector<CudaTransfer> messages;
  std::vector<Tensor> tensors;
  int64_t count = 0;
  for (const TensorTransfer& t : transfers) {
    if (on_host(t.tensor) || !t.tensor.contiguous() || t.peer < 0 || t.peer >= size()) {
      fail(ErrorKind::internal, "exchange on axis {}: peer {} of {}, tensor {}: wants contiguous tensors of one device",
           name(), t.peer, size(), to_string(t.tensor.shape()));
    }
    const bool sending = t.direction == TensorTransfer::Direction::send;
    messages.push_back({t.tensor.raw(), t.tensor.bytes(), t.peer, sending ? 1 : 0});
    tensors.push_back(t.tensor);
    if (sending) count += t.tensor.numel();
  }
  FlightEntry logged = entry("exchange", tensors.front(), count, at);
  const int peer = transfers.front().peer;
  const bool one = std::all_of(transfers.begin(), transfers.end(), [peer](const auto& t) { return t.peer == peer; });
  if (one) logged.peer = peer;
  return transfer(std::move(logged), std::move(tensors), std::move(messages));
}

CudaRanks NcclCommunicator::split_group(int colour, int key) {
  if (!group_) return nullptr;
  CudaDevice& device = transfers_->device();
  return together_make(host_, device, [&](CudaRanks* part) {
    device.check("dividing a group", device.backend().ranks_split(group_->ranks(), colour, key, part));
  });
}

std::unique_ptr<Communicator> NcclCommunicator::split(int colour, int key, std::string name, CallSite at) {
  auto part = host_.split(colour, key, std::move(name), at);
  // Who is in the part: ranks of this communicator and of the world.
  const std::array<int, 2> own{rank(), members_[me()]};
  std::vector<std::array<int, 2>> all(static_cast<size_t>(part->size()));
  const std::vector<int64_t> counts(all.size(), static_cast<int64_t>(sizeof(own)));
  part->all_gather(std::as_bytes(std::span(own)), std::as_writable_bytes(std::span(all)), counts);
  std::vector<int> members;
  for (const auto& [here, world] : all) members.push_back(world);
  // NCCL's colours are not negative: the first member numbers the part. A part of one rank needs none.
  CudaRanks ranks = split_group(part->size() > 1 ? all.front()[0] : -1, part->rank());
  std::shared_ptr<DeviceGroup> group;
  if (ranks != nullptr) group = std::make_shared<DeviceGroup>(transfers_->device(), ranks, part->name(), members);
  Communicator& host = *part;
  return std::make_unique<NcclCommunicator>(host, std::move(part), transfers_, std::move(group), std::move(members));
}

CudaRanks make_group(Communicator& host, CudaDevice& device, const NcclOptions& options) {
  const CudaBackend& backend = device.backend();
  CudaRanksId id{};
  together(host, [&] {
    int32_t version = 0;
    device.check("NCCL's version", backend.ranks_version(&version));
    if (version < kOldestVersion) {
      fail(ErrorKind::environment, "NCCL {}.{} is too old: 2.27 is needed; put a newer libnccl.so.2 on LD_LIBRARY_PATH",
           version / 10000, version / 100 % 100);
    }
    if (host.rank() == 0) device.check("the id of a group", backend.ranks_id(&id));
  });
  host.broadcast(std::as_writable_bytes(std::span(id.bytes)), 0);
  const CudaRanksOptions wanted{options.most_blocks, static_cast<int32_t>(options.patience.count())};
  return together_make(host, device, [&](CudaRanks* made) {
    device.check("making a group", backend.ranks_create(&id, host.rank(), host.size(), &wanted, made));
  });
}

}  // namespace

std::unique_ptr<Communicator> make_nccl_communicator(Communicator& host, CudaDevice& device,
                                                     const NcclOptions& options) {
  std::vector<int> members(static_cast<size_t>(host.size()));
  std::iota(members.begin(), members.end(), 0);
  std::shared_ptr<DeviceGroup> group;
  if (host.size() > 1) {
    CudaRanks ranks = make_group(host, device, options);
    group = std::make_shared<DeviceGroup>(device, ranks, host.name(), members);
  }
  auto transfers = std::make_shared<DeviceTransfers>(device, host.flight_log());
  return std::make_unique<NcclCommunicator>(host, nullptr, std::move(transfers), std::move(group), std::move(members));
}

}  // namespace farsight
