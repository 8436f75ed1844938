// SPDX-License-Identifier: Apache-2.0
#include "kernels/embedding.h"

#include <numeric>
#include <utility>
#include <vector>

#include "kernels/embedding_cpu.h"
#include "kernels/error.h"

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

void scatter(const Tensor& dy, std::span<const int32_t> ids, Parameter& table, const DropoutDraw& draw) {
  table.zero_if_fresh();
  scatter_rows_cpu(dy.data<float>(), dy.row_stride(), ids, dy.cols(), draw, table.grad.data<float>());
}

}  // namespace

Var embedding(Tape& tape, std::span<const int32_t> tokens, Parameter& table, Parameter* position_table,
              std::span<const int32_t> positions, const DropoutSite* dropout) {
  check_sizes(table, position_table, tokens.size(), positions.size());
  check_ids("token", tokens, table);
  if (position_table != nullptr) check_ids("position", positions, *position_table);
  const auto rows = static_cast<int64_t>(tokens.size());
  DropoutDraw draw("embedding", dropout, rows);
  Tensor y = Tensor::empty({rows, table.value.dim(1)});
  gather_rows_cpu(table.value.data<float>(), tokens, position_table ? position_table->value.data<float>() : nullptr,
                  positions, y.cols(), draw, y.data<float>());
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
  Tensor y = Tensor::empty({static_cast<int64_t>(ids.size()), table.shape()[1]});
  gather_rows_cpu(table.value.data<float>(), ids, nullptr, {}, y.cols(), DropoutDraw(), y.data<float>());
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
  Tensor y = Tensor::empty(in.shape());
  gather_rows_cpu(in.data<float>(), rows, position_table ? position_table->value.data<float>() : nullptr, places,
                  in.cols(), draw, y.data<float>());
  const Var out = tape.variable(std::move(y), {x}, position_table != nullptr);
  tape.record(out, {position_table},
              [x, out, position_table, draw = std::move(draw), rows = std::move(rows), places = std::move(places)] {
                if (position_table != nullptr) scatter(out.grad(), places, *position_table, draw);
                if (!x.requires_grad()) return;
                const Gradient dx = x.begin_gradient();
                if (dx.beta == 0.0F) dx.tensor.fill_zero();
                scatter_rows_cpu(out.grad().data<float>(), out.grad().row_stride(), rows, out.grad().cols(), draw,
                                 dx.tensor.data<float>());
              });
  return out;
}

}  // namespace farsight
