// SPDX-License-Identifier: Apache-2.0
#include "parallel/head_exchange.h"

#include <algorithm>
#include <memory>
#include <numeric>
#include <utility>

#include "kernels/error.h"
#include "kernels/rows.h"
#include "parallel/attention_shard.h"

namespace farsight {

namespace {

// Columns [first, first + count) of one of the tensors that travel together.
struct ColumnRun {
  size_t tensor = 0;
  int64_t first = 0, count = 0;
};
using Columns = std::vector<ColumnRun>;  // one row of a message, in this order

int64_t width_of(const Columns& columns) {
  return std::accumulate(columns.begin(), columns.end(), int64_t{0},
                         [](int64_t n, const ColumnRun& run) { return n + run.count; });
}

void append_head(Columns& columns, size_t tensor, int64_t head, int64_t width) {
  ColumnRun* const last = columns.empty() ? nullptr : &columns.back();
  if (last != nullptr && last->tensor == tensor && last->first + last->count == head * width) {
    last->count += width;
  } else {
    columns.push_back({tensor, head * width, width});
  }
}

int64_t count_of(const std::vector<SequenceRange>& places) {
  return std::accumulate(places.begin(), places.end(), int64_t{0},
                         [](int64_t n, const SequenceRange& r) { return n + r.end - r.begin; });
}

// visit(columns of a tensor's first rows, the same columns of the message [rows, ...]).
template <typename Visit>
void each_run(const std::vector<Tensor>& tensors, const Columns& columns, int64_t rows, const Tensor& message,
              Visit visit) {
  const Tensor table = message.view({rows, width_of(columns)});
  int64_t at = 0;
  for (const ColumnRun& run : columns) {
    visit(tensors[run.tensor].narrow(0, rows).narrow_last(run.first, run.count), table.narrow_last(at, run.count));
    at += run.count;
  }
}

Tensor buffer(int64_t elements, DType dtype) { return Tensor::empty({elements}, dtype, MemoryTag::communication); }

// The two movements. A message between two ranks is [B, tokens of the owner, columns of the computing rank].
class HeadExchange {
 public:
  HeadExchange(Communicator& group, const HeadExchangePlan& plan, std::vector<Columns> columns)
      : group_(group), batch_(plan.batch), places_(plan.places), columns_(std::move(columns)) {
    for (const auto& p : places_) tokens_.push_back(count_of(p));
  }
  int64_t own_rows() const { return batch_ * tokens_[me()]; }
  int64_t joined_tokens() const { return std::accumulate(tokens_.begin(), tokens_.end(), int64_t{0}); }
  int64_t own_columns() const { return width_of(columns_[me()]); }

  // Tensors [own rows, ...] to [B*N, own columns].
  Tensor to_heads(const std::vector<Tensor>& tensors) const;
  // [B*N, own columns] to tensors [own rows, ...], which are added to in rank order.
  void to_rows(const Tensor& heads, const std::vector<Tensor>& tensors) const;

 private:
  size_t me() const { return static_cast<size_t>(group_.rank()); }
  // Elements exchanged with each rank: our rows of its columns, or its rows of ours.
  std::vector<int64_t> row_elements() const;
  std::vector<int64_t> head_elements() const;
  Tensor exchange(const Tensor& out, const std::vector<int64_t>& out_elements,
                  const std::vector<int64_t>& in_elements) const;
  // Whether messages in rank order are the joined sequence as it is.
  bool joined_already() const;
  // visit(joined, message, count): `count` elements at these offsets belong together.
  template <typename Visit>
  void each_stretch(Visit visit) const;

  Communicator& group_;
  int64_t batch_;
  std::vector<std::vector<SequenceRange>> places_;
  std::vector<int64_t> tokens_;
  std::vector<Columns> columns_;
};

std::vector<int64_t> HeadExchange::row_elements() const {
  std::vector<int64_t> elements;
  for (const auto& columns : columns_) elements.push_back(own_rows() * width_of(columns));
  return elements;
}

std::vector<int64_t> HeadExchange::head_elements() const {
  std::vector<int64_t> elements;
  for (const int64_t tokens : tokens_) elements.push_back(batch_ * tokens * own_columns());
  return elements;
}

Tensor HeadExchange::exchange(const Tensor& out, const std::vector<int64_t>& out_elements,
                              const std::vector<int64_t>& in_elements) const {
  const Tensor in = buffer(std::accumulate(in_elements.begin(), in_elements.end(), int64_t{0}), out.dtype());
  group_.all_to_all_tensor(out, out_elements, in, in_elements)->wait();
  return in;
}

bool HeadExchange::joined_already() const {
  int64_t next = 0;
  for (const auto& places : places_) {
    for (const auto& range : places) {
      if (range.begin != next) return false;
      next = range.end;
    }
  }
  return batch_ == 1;
}

template <typename Visit>
void HeadExchange::each_stretch(Visit visit) const {
  const int64_t width = own_columns(), joined = joined_tokens();
  int64_t message = 0;
  for (size_t rank = 0; rank < places_.size(); ++rank) {
    for (int64_t b = 0; b < batch_; ++b) {
      for (const auto& range : places_[rank]) {
        const int64_t count = range.end - range.begin;
        visit((b * joined + range.begin) * width, message * width, count * width);
        message += count;
      }
    }
  }
}

Tensor HeadExchange::to_heads(const std::vector<Tensor>& tensors) const {
  const std::vector<int64_t> out_elements = row_elements();
  Tensor out = buffer(std::accumulate(out_elements.begin(), out_elements.end(), int64_t{0}), tensors[0].dtype());
  int64_t at = 0;
  for (size_t rank = 0; rank < columns_.size(); ++rank) {
    each_run(tensors, columns_[rank], own_rows(), out.narrow(at, out_elements[rank]), copy_rows);
    at += out_elements[rank];
  }
  const Tensor in = exchange(out, out_elements, head_elements());
  out = Tensor();
  const Shape shape{batch_ * joined_tokens(), own_columns()};
  if (joined_already()) return in.view(shape);
  Tensor heads = Tensor::empty(shape, in.dtype());
  const Tensor to = heads.view({heads.numel()});
  each_stretch([&](int64_t joined, int64_t message, int64_t count) {
    copy_rows(in.narrow(message, count), to.narrow(joined, count));
  });
  return heads;
}

void HeadExchange::to_rows(const Tensor& heads, const std::vector<Tensor>& tensors) const {
  Tensor out = heads.contiguous() ? heads : heads.clone();
  if (!joined_already()) {
    const Tensor messages = buffer(heads.numel(), heads.dtype()), from = out.view({heads.numel()});
    each_stretch([&](int64_t joined, int64_t message, int64_t count) {
      copy_rows(from.narrow(joined, count), messages.narrow(message, count));
    });
    out = messages;
  }
  const std::vector<int64_t> in_elements = row_elements();
  const Tensor in = exchange(out.view({heads.numel()}), head_elements(), in_elements);
  int64_t at = 0;
  for (size_t rank = 0; rank < columns_.size(); ++rank) {
    each_run(tensors, columns_[rank], own_rows(), in.narrow(at, in_elements[rank]),
             [](const Tensor& to, const Tensor& message) { add_rows(message, to); });
    at += in_elements[rank];
  }
}

int64_t query_heads(const HeadExchangePlan& plan) {
  return std::accumulate(plan.shares.begin(), plan.shares.end(), int64_t{0},
                         [](int64_t n, const HeadShare& s) { return n + s.heads; });
}

int64_t key_heads(const HeadExchangePlan& plan) {
  int64_t most = 0;
  for (const auto& share : plan.shares) {
    most = std::max(most, *std::max_element(share.key_heads.begin(), share.key_heads.end()) + 1);
  }
  return most;
}

void check(const Communicator& group, const HeadExchangePlan& plan, const Var& x, int64_t rows, int64_t heads) {
  const auto ranks = static_cast<size_t>(group.size());
  const Tensor& t = x.value();
  if (plan.places.size() == ranks && plan.shares.size() == ranks && t.rank() == 2 && t.dim(0) == rows && heads > 0 &&
      t.cols() % heads == 0) {
    return;
  }
  fail(ErrorKind::internal, "head exchange over {} ranks: {} with {} rows and {} heads in a plan for {} and {} ranks",
       ranks, to_string(t.shape()), rows, heads, plan.places.size(), plan.shares.size());
}

void append_queries(Columns& columns, const HeadShare& share, size_t tensor, int64_t width) {
  for (int64_t h = 0; h < share.heads; ++h) append_head(columns, tensor, share.first_head + h, width);
}

void append_keys(Columns& columns, const HeadShare& share, size_t tensor, int64_t width) {
  for (const int64_t head : share.key_heads) append_head(columns, tensor, head, width);
}

}  // namespace

HeadRows scatter_heads(Tape& tape, Communicator& group, const HeadExchangePlan& plan, const Var& q, const Var& k,
                       const Var& v) {
  const auto me = static_cast<size_t>(group.rank());
  const int64_t own = plan.batch * count_of(plan.places.at(me));
  check(group, plan, q, own, query_heads(plan));
  check(group, plan, k, own, key_heads(plan));
  check(group, plan, v, own, key_heads(plan));
  const int64_t width = q.value().cols() / query_heads(plan), value_width = v.value().cols() / key_heads(plan);
  std::vector<Columns> columns(plan.shares.size());
  for (size_t rank = 0; rank < columns.size(); ++rank) {
    append_queries(columns[rank], plan.shares[rank], 0, width);
    append_keys(columns[rank], plan.shares[rank], 1, width);
    append_keys(columns[rank], plan.shares[rank], 2, value_width);
  }
  const auto exchange = std::make_shared<HeadExchange>(group, plan, std::move(columns));
  const Var x = tape.variable(exchange->to_heads({q.value(), k.value(), v.value()}), {q, k, v});
  tape.record(x, {}, [exchange, q, k, v, x] {
    exchange->to_rows(x.grad(), {gradient_target(q), gradient_target(k), gradient_target(v)});
  });
  const auto keys = static_cast<int64_t>(plan.shares[me].key_heads.size());
  const auto parts = tape.split_last(x, {plan.shares[me].heads * width, keys * width, keys * value_width});
  return {parts[0], parts[1], parts[2]};
}

Var gather_heads(Tape& tape, Communicator& group, const HeadExchangePlan& plan, const Var& out) {
  const auto me = static_cast<size_t>(group.rank());
  int64_t joined = 0;
  for (const auto& places : plan.places) joined += count_of(places);
  check(group, plan, out, plan.batch * joined, plan.shares.at(me).heads);
  const int64_t width = out.value().cols() / plan.shares[me].heads;
  std::vector<Columns> columns(plan.shares.size());
  for (size_t rank = 0; rank < columns.size(); ++rank) append_queries(columns[rank], plan.shares[rank], 0, width);
  const auto exchange = std::make_shared<HeadExchange>(group, plan, std::move(columns));
  const Tensor rows = Tensor::zeros({exchange->own_rows(), query_heads(plan) * width}, out.value().dtype());
  exchange->to_rows(out.value(), {rows});
  const Var result = tape.variable(rows, {out});
  tape.record(result, {}, [exchange, out, result] {
    const Tensor gradient = exchange->to_heads({result.grad()});
    if (!out.adopt_gradient(gradient)) add_columns(gradient, 0, gradient_target(out));
  });
  return result;
}

}  // namespace farsight
