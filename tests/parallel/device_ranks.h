// SPDX-License-Identifier: Apache-2.0
// Threads as ranks that each compute on a device and exchange tensors through NCCL: the emulated one, where all share
// device 0. Host values go to the device and come back.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "kernels/cuda/device.h"
#include "kernels/rows.h"
#include "kernels/tensor.h"
#include "parallel/inproc_comm.h"
#include "parallel/nccl_comm.h"

namespace farsight::testing {

inline bool device_is_emulated() {
  return std::string(CudaDevice(0).info().name).find("emulated") != std::string::npos;
}

// body(communicator, the world in host memory that it is built on).
inline void on_devices(int ranks, const std::function<void(Communicator& world, Communicator& host)>& body) {
  run_in_process(ranks, [&](Communicator& host) {
    CudaDevice device(0);
    const CudaScope scope(device);
    const auto world = make_nccl_communicator(host, device);
    body(*world, host);
  });
}

inline Tensor to_device(const std::vector<double>& values, DType type) {
  const Tensor host = Tensor::empty({static_cast<int64_t>(values.size())}, type == DType::f64 ? type : DType::f32,
                                    MemoryTag::other, Device::cpu);
  for (size_t i = 0; i < values.size(); ++i) {
    if (type == DType::f64) {
      host.data<double>()[i] = values[i];
    } else {
      host.data<float>()[i] = static_cast<float>(values[i]);
    }
  }
  const Tensor there = host.to(Device::cuda);
  if (type != DType::bf16) return there;
  const Tensor narrow = Tensor::empty(there.shape(), type);
  copy_rows(there, narrow);
  return narrow;
}

inline std::vector<double> to_host(const Tensor& tensor) {
  Tensor wide = tensor;
  if (tensor.dtype() == DType::bf16) {
    wide = Tensor::empty(tensor.shape(), DType::f32);
    copy_rows(tensor, wide);
  }
  const Tensor host = wide.to(Device::cpu);
  std::vector<double> values(static_cast<size_t>(host.numel()));
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = host.dtype() == DType::f64 ? host.data<double>()[i] : static_cast<double>(host.data<float>()[i]);
  }
  return values;
}

}  // namespace farsight::testing
