// SPDX-License-Identifier: Apache-2.0
// The tensor operations of Communicator: host tensors as they are; tensors on a device through host memory, for back
// ends that know none and for ranks that share a GPU. Correct in any layout; its speed means nothing.
#include <utility>
#include <vector>

#include "kernels/error.h"
#include "kernels/rows.h"
#include "parallel/comm.h"

namespace farsight {
namespace {

bool on_host(const Tensor& t) { return t.device() == Device::cpu; }

std::span<std::byte> bytes_of(const Tensor& t) {
  return {static_cast<std::byte*>(t.raw()), static_cast<size_t>(t.bytes())};
}

std::vector<int64_t> in_bytes(std::span<const int64_t> counts, DType dtype) {
  std::vector<int64_t> bytes(counts.begin(), counts.end());
  for (int64_t& n : bytes) n *= size_of(dtype);
  return bytes;
}

// A host copy, in fp32 where sums are formed.
Tensor staged(const Tensor& t, bool sums) {
  if (!sums || t.dtype() != DType::bf16) return t.to(Device::cpu);
  const Tensor wide = Tensor::empty(t.shape(), DType::f32, MemoryTag::communication, t.device());
  copy_rows(t, wide);
  return wide.to(Device::cpu);
}

Tensor host_like(const Tensor& t, DType dtype) {
  return Tensor::empty(t.shape(), dtype, MemoryTag::communication, Device::cpu);
}

// A transfer of host memory whose result belongs on a device.
class StagedRequest final : public Request {
 public:
  StagedRequest(RequestPtr request, std::vector<Tensor> kept, Tensor arrived, Tensor target)
      : request_(std::move(request)),
        kept_(std::move(kept)),
        arrived_(std::move(arrived)),
        target_(std::move(target)) {}
  ~StagedRequest() override {
    if (request_) request_->wait();
  }
  void wait() override {
    if (!request_) return;
    request_->wait();
    deliver();
  }
  bool test() override {
    if (request_ && request_->test()) deliver();
    return !request_;
  }

 private:
  void deliver() {
    request_.reset();
    kept_.clear();
    if (target_.defined()) copy_rows(arrived_.to(target_.device()), target_);
    arrived_ = target_ = Tensor();
  }

  RequestPtr request_;
  std::vector<Tensor> kept_;  // what is sent
  Tensor arrived_, target_;
};

// Several transfers as one, and what is sent by them.
class RequestList final : public Request {
 public:
  RequestList(std::vector<RequestPtr> requests, std::vector<Tensor> kept)
      : kept_(std::move(kept)), requests_(std::move(requests)) {}
  void wait() override {
    for (const RequestPtr& request : requests_) request->wait();
    requests_.clear();
  }
  bool test() override {
    std::erase_if(requests_, [](const RequestPtr& request) { return request->test(); });
    return requests_.empty();
  }

 private:
  std::vector<Tensor> kept_;  // outlives the requests
  std::vector<RequestPtr> requests_;
};

}  // namespace

RequestPtr Communicator::all_reduce_tensor(const Tensor& data, ReduceOp op, CallSite at) {
  if (on_host(data)) return all_reduce_async(data.span<float>(), op, at);
  const Tensor host = staged(data, /*sums=*/true);
  RequestPtr request = all_reduce_async(host.span<float>(), op, at);
  return std::make_unique<StagedRequest>(std::move(request), std::vector<Tensor>{}, host, data);
}

void Communicator::all_reduce_now(const Tensor& data, ReduceOp op, CallSite at) {
  if (size() == 1 && !on_host(data)) return;  // nothing to wait for
  const Tensor host = data.to(Device::cpu);
  if (host.dtype() == DType::f64) {
    all_reduce(host.span<double>(), op, at);
  } else {
    all_reduce(host.span<float>(), op, at);
  }
  if (!on_host(data)) copy_rows(host.to(data.device()), data);
}

RequestPtr Communicator::reduce_scatter_tensor(const Tensor& data, const Tensor& mine, std::span<const int64_t> counts,
                                               ReduceOp op, CallSite at) {
  if (on_host(data)) return reduce_scatter_async(data.span<float>(), mine.span<float>(), counts, op, at);
  const Tensor host = staged(data, /*sums=*/true), arrived = host_like(mine, DType::f32);
  RequestPtr request = reduce_scatter_async(host.span<float>(), arrived.span<float>(), counts, op, at);
  return std::make_unique<StagedRequest>(std::move(request), std::vector<Tensor>{host}, arrived, mine);
}

RequestPtr Communicator::all_gather_tensor(const Tensor& mine, const Tensor& all, std::span<const int64_t> counts,
                                           CallSite at) {
  const auto bytes = in_bytes(counts, all.dtype());
  if (on_host(all)) return all_gather_async(bytes_of(mine), bytes_of(all), bytes, at);
  const Tensor host = staged(mine, /*sums=*/false), arrived = host_like(all, all.dtype());
  RequestPtr request = all_gather_async(bytes_of(host), bytes_of(arrived), bytes, at);
  return std::make_unique<StagedRequest>(std::move(request), std::vector<Tensor>{host}, arrived, all);
}

RequestPtr Communicator::all_to_all_tensor(const Tensor& out, std::span<const int64_t> out_counts, const Tensor& in,
                                           std::span<const int64_t> in_counts, CallSite at) {
  const auto out_bytes = in_bytes(out_counts, out.dtype()), arriving = in_bytes(in_counts, in.dtype());
  if (on_host(out)) return all_to_all_async(bytes_of(out), out_bytes, bytes_of(in), arriving, at);
  const Tensor host = staged(out, /*sums=*/false), arrived = host_like(in, in.dtype());
  RequestPtr request = all_to_all_async(bytes_of(host), out_bytes, bytes_of(arrived), arriving, at);
  return std::make_unique<StagedRequest>(std::move(request), std::vector<Tensor>{host}, arrived, in);
}

RequestPtr Communicator::exchange_tensors(std::span<const TensorTransfer> transfers, int tag, CallSite at) {
  using Direction = TensorTransfer::Direction;
  std::vector<RequestPtr> requests;
  for (const TensorTransfer& t : transfers) {
    if (t.direction != Direction::receive) continue;
    const Tensor arrived = on_host(t.tensor) ? t.tensor : host_like(t.tensor, t.tensor.dtype());
    RequestPtr request = receive(bytes_of(arrived), t.peer, tag, at);
    requests.push_back(on_host(t.tensor) ? std::move(request)
                                         : std::make_unique<StagedRequest>(std::move(request), std::vector<Tensor>{},
                                                                           arrived, t.tensor));
  }
  std::vector<Tensor> leaving;
  for (const TensorTransfer& t : transfers) {
    if (t.direction != Direction::send) continue;
    leaving.push_back(staged(t.tensor, /*sums=*/false));
    requests.push_back(send(bytes_of(leaving.back()), t.peer, tag, at));
  }
  return std::make_unique<RequestList>(std::move(requests), std::move(leaving));
}

}  // namespace farsight
