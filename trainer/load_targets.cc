// SPDX-License-Identifier: Apache-2.0
#include "trainer/load_targets.h"

#include "kernels/rows.h"

namespace farsight {

void LoadTargets::add(SliceBox box, const Tensor& values) {
  const Tensor flat = values.view({values.numel()});
  if (flat.device() == Device::cpu && flat.dtype() == DType::f32) {
    targets_.push_back({std::move(box), flat.raw()});
    return;
  }
  const Tensor host = Tensor::empty(flat.shape(), DType::f32, MemoryTag::data, Device::cpu);
  targets_.push_back({std::move(box), host.raw()});
  staged_.emplace_back(host, flat);
}

void LoadTargets::deliver() {
  for (auto& [host, values] : staged_) {
    if (host.numel() > 0) copy_rows(host.to(values.device()), values);
    host = Tensor();
  }
  staged_.clear();
}

}  // namespace farsight
