// SPDX-License-Identifier: Apache-2.0
#include "kernels/embedding.h"

#include <numeric>
#include <utility>
#include <vector>

#include "kernels/cuda/device.h"
#include "kernels/dropout_cpu.h"
#include "kernels/embedding_cpu.h"
#include "kernels/error.h"
#include "kernels/rows.h"

namespace farsight {
namespace {

void check_ids(const char* what, std::span<const int32_t> ids, const Parameter& table) {
  const int64_t rows = table.value.dim(0);
  for (size_t n = 0; n < ids.size(); ++n) {
    if (ids[n] < 0 || ids[n] >= rows) {
      fail(ErrorKind::data, "embedding: {} {} of row {} is outside '{}', which has {} rows", what, ids[n], n,
           table.name, rows);
    }
  }
}

void check_sizes(const Parameter& table, const Parameter* position_table, size_t tokens, size_t positions) {
  const bool tables_fit = table.value.rank() == 2 &&
                          (position_table == nullptr ||
                           (position_table->value.rank() == 2 && position_table->value.dim(1) == table.value.dim(1)));
  if (!tables_fit || (position_table != nullptr && positions != tokens)) {
    fail(ErrorKind::internal, "embedding: {} tokens, {} positions, table '{}' {}, position table {}", tokens, positions,
         table.name, to_string(table.value.shape()),
         position_table == nullptr ? "(none)" : to_string(position_table->value.shape()));
  }
}

// y[n] = dropout(table[ids[n]] + positional[places[n]]); `positional` may be undefined, a negative id gives zeros.
void gather(const Tensor& table, std::span<const int32_t> ids, const Tensor& positional,
            std::span<const int32_t> places, const DropoutDraw& draw, const Tensor& y) {
  expect_together("embedding", {&table, &positional, &y});
  if (table.device() == Device::cpu) {
    gather_rows_cpu(table.data<float>(), ids, positional.defined() ? positional.data<float>() : nullptr, places,
                    y.cols(), draw, y.data<float>());
    return;
  }
  const Tensor device_ids = device_copy(ids), device_places = positional.defined() ? device_copy(places) : Tensor();
  const CudaGatherRows a{table.dtype(),
                         y.rows(),
                         y.cols(),
                         table.raw(),
                         static_cast<const int32_t*>(device_ids.raw()),
                         positional.raw(),
                         static_cast<const int32_t*>(device_places.raw()),
                         y.raw(),
                         draw.cuda()};
  cuda_device().run("embedding", &CudaBackend::gather_rows, a);
}

// The rows that meet in each row of a table, in their own order.
struct RowsByTarget {
  std::vector<int32_t> order, start, target;
  RowsByTarget(std::span<const int32_t> ids, int64_t table_rows) {
    std::vector<int32_t> next(static_cast<size_t>(table_rows) + 1);
    for (const int32_t id : ids) {
      if (id >= 0) ++next[static_cast<size_t>(id) + 1];
    }
    for (size_t id = 0; id + 1 < next.size(); ++id) {
      if (next[id + 1] > 0) {
        target.push_back(static_cast<int32_t>(id));
        start.push_back(next[id]);
      }
      next[id + 1] += next[id];
    }
    start.push_back(next.back());
    order.resize(static_cast<size_t>(next.back()));
    for (size_t n = 0; n < ids.size(); ++n) {
      if (ids[n] >= 0) order[static_cast<size_t>(next[static_cast<size_t>(ids[n])]++)] = static_cast<int32_t>(n);
    }
  }
};

void scatter(const Tensor& dy, std::span<const int32_t> ids, const Tensor& gradient, const DropoutDraw& draw) {
  if (dy.device() == Device::cpu) {
    scatter_rows_cpu(dy.data<float>(), dy.row_stride(), ids, dy.cols(), draw, gradient.data<float>());
    return;
  }
  const RowsByTarget rows(ids, gradient.rows());
  const Tensor order = device_copy(rows.order), start = device_copy(rows.start), target = device_copy(rows.target);
  const CudaScatterRows a{dy.dtype(),
                          target.numel(),
                          dy.cols(),
                          dy.raw(),
                          dy.row_stride(),
                          static_cast<const int32_t*>(order.raw()),
                          static_cast<const int32_t*>(start.raw()),
                          static_cast<const int32_t*>(target.raw()),
                          static_cast<float*>(gradient.raw()),
                          draw.cuda()};
  cuda_device().run("embedding backward", &CudaBackend::scatter_rows, a);
}

void scatter(const Tensor& dy, std::span<const int32_t> ids, Parameter& table, const DropoutDraw& draw) {
  table.zero_if_fresh();
  scatter(dy, ids, table.grad, draw);
}

}  // namespace

Var embedding(Tape& tape, std::span<const int32_t> tokens, Parameter& table, Parameter* position_table,
              std::span<const int32_t> positions, const DropoutSite* dropout) {
  check_sizes(table, position_table, tokens.size(), positions.size());
  check_ids("token", tokens, table);
  if (position_table != nullptr) check_ids("position", positions, *position_table);
  const auto rows = static_cast<int64_t>(tokens.size());
  DropoutDraw draw("embedding", dropout, rows);
  Tensor y = Tensor::empty({rows, table.value.dim(1)}, table.value.dtype());
  gather(table.value, tokens, position_table ? position_table->value : Tensor(), positions, draw, y);
  const Var out = tape.variable(std::move(y), {}, /*uses_parameters=*/true);
  if (position_table == nullptr) positions = {};
  tape.record(
      out, {&table, position_table},
      [out, &table, position_table, draw = std::move(draw), ids = std::vector<int32_t>(tokens.begin(), tokens.end()),
       places = std::vector<int32_t>(positions.begin(), positions.end())] {
        scatter(out.grad(), ids, table, draw);
        if (position_table != nullptr) scatter(out.grad(), places, *position_table, draw);
      });
  return out;
}

Var partial_embedding(Tape& tape, std::span<const int32_t> tokens, Parameter& table) {
  const int64_t vocabulary = table.slice.global[0];
  const int64_t first = table.slice.first[0];
  std::vector<int32_t> ids(tokens.begin(), tokens.end());
  for (size_t n = 0; n < ids.size(); ++n) {
    if (ids[n] < 0 || ids[n] >= vocabulary) {
      fail(ErrorKind::data, "embedding: token {} of row {} is outside '{}', which has {} rows", ids[n], n, table.name,
           vocabulary);
    }
    const int64_t local = ids[n] - first;
    ids[n] = local >= 0 && local < table.shape()[0] ? static_cast<int32_t>(local) : -1;
  }
  Tensor y = Tensor::empty({static_cast<int64_t>(ids.size()), table.shape()[1]}, table.value.dtype());
  gather(table.value, ids, {}, {}, DropoutDraw(), y);
  const Var out = tape.variable(std::move(y), {}, /*uses_parameters=*/true);
  tape.record(out, {&table}, [out, &table, ids = std::move(ids)] { scatter(out.grad(), ids, table, DropoutDraw()); });
  return out;
}

Var add_positions(Tape& tape, const Var& x, Parameter* position_table, std::span<const int32_t> positions,
                  const DropoutSite* dropout) {
  const Tensor& in = x.value();
  DropoutDraw draw("add_positions", dropout, in.rows());
  if (position_table == nullptr && !draw.active()) return x;
  if (position_table != nullptr) {
    check_sizes(*position_table, position_table, static_cast<size_t>(in.rows()), positions.size());
    check_ids("position", positions, *position_table);
  }
  // The rows of x in their own order are a table that every row reads once.
  std::vector<int32_t> rows(static_cast<size_t>(in.rows()));
  std::iota(rows.begin(), rows.end(), 0);
  std::vector<int32_t> places(positions.begin(), positions.begin() + (position_table ? in.rows() : 0));
  Tensor y = Tensor::empty(in.shape(), in.dtype());
  gather(in, rows, position_table ? position_table->value : Tensor(), places, draw, y);
  const Var out = tape.variable(std::move(y), {x}, position_table != nullptr);
  tape.record(out, {position_table}, [x, out, position_table, draw = std::move(draw), places = std::move(places)] {
    if (position_table != nullptr) scatter(out.grad(), places, *position_table, draw);
    if (!x.requires_grad()) return;
    const Gradient dx = x.begin_gradient();
    const bool add = dx.beta != 0.0F;
    if (draw.active()) {
      dropout_rows(draw, out.grad(), dx.tensor, add);
    } else {
      add ? add_rows(out.grad(), dx.tensor) : copy_rows(out.grad(), dx.tensor);
    }
  });
  return out;
}

}  // namespace farsight
