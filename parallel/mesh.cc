// SPDX-License-Identifier: Apache-2.0
#include "parallel/mesh.h"

#include <algorithm>
#include <utility>

#include "kernels/error.h"

namespace farsight {

namespace {

constexpr std::array<Axis, 5> kGrid{Axis::pp, Axis::dp, Axis::ring, Axis::uly, Axis::tp};  // slowest first

// One tiny instance of each kind of traffic, so that connections exist before they are timed.
void warm_up(Communicator& comm) {
  comm.barrier();
  float one = 1.0F;
  comm.all_reduce(std::span<float>(&one, 1), ReduceOp::sum);
  if (comm.size() == 1) return;
  const int n = comm.size();
  std::byte out{1};
  std::byte in{0};
  auto receiving = comm.receive({&in, 1}, (comm.rank() + n - 1) % n, 0);
  auto sending = comm.send({&out, 1}, (comm.rank() + 1) % n, 0);
  receiving->wait();
  sending->wait();
  if (static_cast<int>(one) != n || in != out) {
    fail(ErrorKind::environment, "axis {}: the first messages between its {} ranks came out wrong", comm.name(), n);
  }
}

void add_problem(std::string& problems, const std::string& text) {
  if (!problems.empty()) problems += '\n';
  problems += text;
}

void only(std::string& problems, const char* key, int64_t value, int64_t available, const char* instead) {
  if (value == available) return;
  add_problem(problems, fmt::format("parallel.{} = {} is not available in this version (available: {}); {}", key, value,
                                    available, instead));
}

std::string unavailable(const ParallelOptions& o) {
  std::string problems;
  only(problems, "tensor", o.tensor, 1, "use parallel.data or parallel.ring");
  only(problems, "ulysses", o.ulysses, 1, "use parallel.ring");
  only(problems, "pipeline", o.pipeline, 1, "use parallel.data or parallel.ring");
  only(problems, "expert", o.expert, 1, "models have no experts");
  only(problems, "zero", o.zero, 0, "every rank holds the whole optimizer state");
  only(problems, "zero_group", o.zero_group, 0, "it acts with zero > 0");
  only(problems, "gather_heads", o.gather_heads, 0, "it acts with context = \"allgather\"");
  if (o.context != "auto" && o.context != "ring") {
    add_problem(problems,
                fmt::format("parallel.context = \"{}\" is not available in this version (available: \"auto\", "
                            "\"ring\")",
                            o.context));
  }
  return problems;
}

}  // namespace

const char* to_string(Axis axis) {
  switch (axis) {
    case Axis::pp:
      return "pp";
    case Axis::dp:
      return "dp";
    case Axis::ring:
      return "ring";
    case Axis::uly:
      return "uly";
    case Axis::tp:
      return "tp";
    case Axis::ep:
      return "ep";
    case Axis::edp:
      return "edp";
  }
  return "?";
}

std::string to_string(AxisSet set) {
  std::string text;
  for (const Axis a : {Axis::pp, Axis::dp, Axis::ring, Axis::uly, Axis::tp, Axis::edp, Axis::ep}) {
    if (!set.contains(a)) continue;
    if (!text.empty()) text += '*';
    text += to_string(a);
  }
  return text.empty() ? "none" : text;
}

MeshShape::MeshShape(int64_t pp, int64_t dp, int64_t ring, int64_t uly, int64_t tp, int64_t ep)
    : pp_(pp), dp_(dp), ring_(ring), uly_(uly), tp_(tp), ep_(ep) {
  if (std::min({pp, dp, ring, uly, tp, ep}) < 1) {
    fail(ErrorKind::config,
         "mesh: extents pipeline {}, data {}, ring {}, ulysses {}, tensor {}, expert {}; all must be "
         "at least 1",
         pp, dp, ring, uly, tp, ep);
  }
  if (dp * ring * uly % ep != 0) {
    fail(ErrorKind::config, "mesh: expert = {} does not divide data x ring x ulysses = {}", ep, dp * ring * uly);
  }
}

int64_t MeshShape::world() const { return pp_ * dp_ * ring_ * uly_ * tp_; }

int64_t MeshShape::extent(Axis axis) const {
  switch (axis) {
    case Axis::pp:
      return pp_;
    case Axis::dp:
      return dp_;
    case Axis::ring:
      return ring_;
    case Axis::uly:
      return uly_;
    case Axis::tp:
      return tp_;
    case Axis::ep:
      return ep_;
    case Axis::edp:
      return dp_ * ring_ * uly_ / ep_;
  }
  return 1;
}

int64_t MeshShape::extent(AxisSet axes) const {
  int64_t product = 1;
  for (const Axis a : {Axis::pp, Axis::dp, Axis::ring, Axis::uly, Axis::tp, Axis::ep, Axis::edp}) {
    if (axes.contains(a)) product *= extent(a);
  }
  return product;
}

Coordinate MeshShape::coordinate(int64_t rank) const {
  Coordinate c;
  c.tp = rank % tp_;
  c.uly = rank / tp_ % uly_;
  c.ring = rank / (tp_ * uly_) % ring_;
  c.dp = rank / (tp_ * uly_ * ring_) % dp_;
  c.pp = rank / (tp_ * uly_ * ring_ * dp_);
  return c;
}

int64_t MeshShape::rank(const Coordinate& c) const {
  return (((c.pp * dp_ + c.dp) * ring_ + c.ring) * uly_ + c.uly) * tp_ + c.tp;
}

int64_t MeshShape::index(int64_t rank, Axis axis) const {
  const Coordinate c = coordinate(rank);
  const int64_t data_context = (c.dp * ring_ + c.ring) * uly_ + c.uly;
  switch (axis) {
    case Axis::pp:
      return c.pp;
    case Axis::dp:
      return c.dp;
    case Axis::ring:
      return c.ring;
    case Axis::uly:
      return c.uly;
    case Axis::tp:
      return c.tp;
    case Axis::ep:
      return data_context % ep_;
    case Axis::edp:
      return data_context / ep_;
  }
  return 0;
}

std::vector<int64_t> MeshShape::group(int64_t rank, AxisSet axes) const {
  const AxisSet expert{Axis::ep, Axis::edp};
  const bool by_experts = !(axes & expert).empty();
  if (by_experts && !(axes & kDataContextAxes).empty()) {
    fail(ErrorKind::internal, "mesh: axis set {} mixes two factorisations of the same ranks", to_string(axes));
  }
  AxisSet fixed = by_experts ? AxisSet{Axis::pp, Axis::tp, Axis::ep, Axis::edp} : kAllAxes;
  fixed = fixed.without(axes);
  std::vector<int64_t> members;
  for (int64_t other = 0; other < world(); ++other) {
    bool same = true;
    for (const Axis a : {Axis::pp, Axis::dp, Axis::ring, Axis::uly, Axis::tp, Axis::ep, Axis::edp}) {
      if (fixed.contains(a)) same = same && index(other, a) == index(rank, a);
    }
    if (same) members.push_back(other);
  }
  return members;
}

MeshShape resolve_mesh(const ParallelOptions& o, int64_t world) {
  std::string problems = unavailable(o);
  for (const auto& [key, value] : {std::pair{"ring", o.ring},
                                   {"ulysses", o.ulysses},
                                   {"tensor", o.tensor},
                                   {"pipeline", o.pipeline},
                                   {"expert", o.expert}}) {
    if (value < 1) add_problem(problems, fmt::format("parallel.{} = {}: must be at least 1", key, value));
  }
  if (o.data < 0) add_problem(problems, fmt::format("parallel.data = {}: must be at least 1, or \"auto\"", o.data));
  if (o.bucket < 4) add_problem(problems, fmt::format("parallel.bucket = {}: must hold at least 4 bytes", o.bucket));
  if (!problems.empty()) fail(ErrorKind::config, "{}", problems);

  const int64_t others = o.ring * o.ulysses * o.tensor * o.pipeline;
  if (o.data == 0 && world % others != 0) {
    fail(ErrorKind::config,
         "parallel.ring = {} does not divide the {} ranks of this job; start a multiple of {} ranks, "
         "or set parallel.ring to a divisor of {}",
         o.ring, world, others, world);
  }
  const int64_t data = o.data == 0 ? world / others : o.data;
  if (data * others != world) {
    fail(ErrorKind::config,
         "parallel.data = {} x parallel.ring = {} needs {} ranks, this job has {}; start {} ranks, or "
         "set parallel.data = \"auto\"",
         o.data, o.ring, data * others, world, data * others);
  }
  return MeshShape(o.pipeline, data, o.ring, o.ulysses, o.tensor, o.expert);
}

Mesh::Mesh(Communicator& world, const ParallelOptions& options)
    : world_(world), shape_(resolve_mesh(options, world.size())), coordinate_(shape_.coordinate(world.rank())) {
  for (const AxisSet axes : {AxisSet{}, AxisSet{Axis::dp}, AxisSet{Axis::ring}, AxisSet{Axis::dp, Axis::ring}}) {
    if (used(axes) != axes) continue;
    const auto members = shape_.group(world.rank(), axes);
    // Groups are disjoint, so their first member numbers them; members are in rank order.
    auto comm = world.split(static_cast<int>(members.front()), world.rank(), to_string(axes));
    warm_up(*comm);
    communicators_.emplace(axes, std::move(comm));
  }
}

AxisSet Mesh::used(AxisSet axes) const {
  AxisSet result;
  for (const Axis a : kGrid) {
    if (axes.contains(a) && shape_.extent(a) > 1) result = result | AxisSet{a};
  }
  return result;
}

Communicator& Mesh::communicator(AxisSet axes) {
  const auto found = communicators_.find(used(axes));
  if (found == communicators_.end())
    fail(ErrorKind::internal, "mesh: no communicator for axis set {}", to_string(axes));
  return *found->second;
}

std::string Mesh::describe() const {
  return fmt::format("data {} x ring {} ({} {})", shape_.extent(Axis::dp), shape_.extent(Axis::ring), shape_.world(),
                     shape_.world() == 1 ? "rank" : "ranks");
}

}  // namespace farsight
