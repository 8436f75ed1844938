// SPDX-License-Identifier: Apache-2.0
#include "kernels/add_table.h"

#include "kernels/embedding.h"
#include "kernels/error.h"

namespace farsight {

Var add_table(Tape& tape, const Var& x, Parameter& table, const Tensor& ids) {
  const Tensor& in = x.value();
  if (!in.contiguous() || ids.dtype() != DType::i32 || ids.numel() != in.rows()) {
    fail(ErrorKind::internal, "add_table: rows {} apart of shape {}, ids {} {}", in.row_stride(), to_string(in.shape()),
         to_string(ids.dtype()), to_string(ids.shape()));
  }
  return add_positions(tape, x, &table, ids.to(Device::cpu).span<int32_t>(), nullptr);
}

}  // namespace farsight
