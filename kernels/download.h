// SPDX-License-Identifier: Apache-2.0
// The values of a tensor on their way to the host. Started behind what the device has been given so far; later work may
// write to the tensor again, and the host waits only when it reads.
#pragma once

#include <memory>

#include "kernels/cuda/backend.h"
#include "kernels/tensor.h"

namespace farsight {

class CudaDevice;

class Download {
 public:
  Download() = default;
  // A contiguous tensor, on the host or the device of this thread.
  explicit Download(const Tensor& from);
  ~Download();
  Download(Download&& other) noexcept;
  Download& operator=(Download&& other) noexcept;

  bool defined() const { return values_.defined(); }
  // A host tensor with the values; waits for them the first time. On the thread that started it.
  const Tensor& wait();

 private:
  void drop() noexcept;

  Tensor values_;  // on the host
  std::shared_ptr<void> pinned_;
  CudaDevice* device_ = nullptr;  // null: the values are here
  CudaEvent arrived_ = nullptr;
};

}  // namespace farsight
