// SPDX-License-Identifier: Apache-2.0
#include "parallel/mesh.h"

#include <algorithm>
#include <utility>

#include "kernels/error.h"
#include "kernels/rows.h"
#include "kernels/tensor.h"

namespace farsight {

namespace {

// Connections between devices are made by the first message, which must not happen in the middle of a step.
void warm_up_device(Communicator& comm) {
  using Direction = TensorTransfer::Direction;
  const int n = comm.size(), right = (comm.rank() + 1) % n, left = (comm.rank() + n - 1) % n;
  const Tensor sum = Tensor::empty({n}), arrived = Tensor::zeros({n});
  fill(sum, 1.0F);
  comm.all_reduce_tensor(sum, ReduceOp::sum)->wait();
  const TensorTransfer transfers[] = {{Direction::receive, arrived, left}, {Direction::send, sum, right}};
  comm.exchange_tensors(transfers, 0)->wait();
  const Tensor result = arrived.to(Device::cpu);
  const auto values = result.span<float>();
  if (std::any_of(values.begin(), values.end(), [n](float v) { return v != static_cast<float>(n); })) {
    fail(ErrorKind::environment, "axis {}: the first messages between the devices of its {} ranks came out wrong",
         comm.name(), n);
  }
}

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
  if (current_device() != Device::cpu) warm_up_device(comm);
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
  only(problems, "pipeline", o.pipeline, 1, "use parallel.data, parallel.ring or parallel.tensor");
  only(problems, "expert", o.expert, 1, "models have no experts");
  return problems;
}

// "parallel.ring = 2 x parallel.tensor = 2": the extents besides data that are not 1; ring alone when all are.
std::string describe_axes(const ParallelOptions& o) {
  std::string text;
  for (const auto& [name, value] : {std::pair{"ring", o.ring}, {"ulysses", o.ulysses}, {"tensor", o.tensor}}) {
    if (value != 1) text += fmt::format("{}parallel.{} = {}", text.empty() ? "" : " x ", name, value);
  }
  return text.empty() ? "parallel.ring = 1" : text;
}

// Pairs of names for the same ranks; a set uses one or the other.
constexpr AxisSet kExpertAxes{Axis::edp, Axis::ep};
constexpr AxisSet kZeroAxes{Axis::zrep, Axis::zero};
constexpr AxisSet kKeyAxes{Axis::kvshard, Axis::kvrep};

// All axes of a complete grid in which the set can be named.
AxisSet basis_of(AxisSet axes) {
  const bool experts = !(axes & kExpertAxes).empty();
  const bool zero = !(axes & kZeroAxes).empty();
  const bool keys = !(axes & kKeyAxes).empty();
  const bool data = !(axes & kDataContextAxes).empty();
  if (experts + zero + data > 1 || (keys && axes.contains(Axis::tp))) {
    fail(ErrorKind::internal, "mesh: axis set {} mixes two foldings of the same ranks", to_string(axes));
  }
  const AxisSet inner = keys ? kKeyAxes : AxisSet{Axis::tp};
  return AxisSet{Axis::pp} | inner | (experts ? kExpertAxes : zero ? kZeroAxes : kDataContextAxes);
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
    case Axis::zrep:
      return "zrep";
    case Axis::zero:
      return "zero";
    case Axis::kvshard:
      return "kvshard";
    case Axis::kvrep:
      return "kvrep";
  }
  return "?";
}

std::string to_string(AxisSet set) {
  std::string text;
  for (const Axis a : kEveryAxis) {
    if (!set.contains(a)) continue;
    if (!text.empty()) text += '*';
    text += to_string(a);
  }
  return text.empty() ? "none" : text;
}

MeshShape::MeshShape(int64_t pp, int64_t dp, int64_t ring, int64_t uly, int64_t tp, int64_t ep, int64_t zero,
                     int64_t kvrep)
    : pp_(pp), dp_(dp), ring_(ring), uly_(uly), tp_(tp), ep_(ep), zero_(zero), kvrep_(kvrep) {
  if (std::min({pp, dp, ring, uly, tp, ep, kvrep}) < 1 || zero < 0) {
    fail(ErrorKind::config,
         "mesh: extents pipeline {}, data {}, ring {}, ulysses {}, tensor {}, expert {}; all must be "
         "at least 1",
         pp, dp, ring, uly, tp, ep);
  }
  const int64_t data_context = dp * ring * uly;
  if (zero_ == 0) zero_ = data_context;
  if (data_context % ep != 0) {
    fail(ErrorKind::config, "mesh: expert = {} does not divide data x ring x ulysses = {}", ep, data_context);
  }
  if (data_context % zero_ != 0) {
    fail(ErrorKind::config, "parallel.zero_group = {} does not divide data x ring x ulysses = {}", zero_, data_context);
  }
  if (tp % kvrep != 0) fail(ErrorKind::config, "mesh: {} replicas of key heads do not divide tensor = {}", kvrep, tp);
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
    case Axis::zrep:
      return dp_ * ring_ * uly_ / zero_;
    case Axis::zero:
      return zero_;
    case Axis::kvshard:
      return tp_ / kvrep_;
    case Axis::kvrep:
      return kvrep_;
  }
  return 1;
}

int64_t MeshShape::extent(AxisSet axes) const {
  int64_t product = 1;
  for (const Axis a : kEveryAxis) {
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
    case Axis::zrep:
      return data_context / zero_;
    case Axis::zero:
      return data_context % zero_;
    case Axis::kvshard:
      return c.tp / kvrep_;
    case Axis::kvrep:
      return c.tp % kvrep_;
  }
  return 0;
}

std::vector<int64_t> MeshShape::group(int64_t rank, AxisSet axes) const {
  const AxisSet fixed = basis_of(axes).without(axes);
  std::vector<int64_t> members;
  for (int64_t other = 0; other < world(); ++other) {
    const bool same = std::all_of(kEveryAxis.begin(), kEveryAxis.end(),
                                  [&](Axis a) { return !fixed.contains(a) || index(other, a) == index(rank, a); });
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
  if (!problems.empty()) fail(ErrorKind::config, "{}", problems);

  const int64_t others = o.ring * o.ulysses * o.tensor * o.pipeline;
  const std::string grid = describe_axes(o);
  if (o.data == 0 && world % others != 0) {
    fail(ErrorKind::config,
         "{} does not divide the {} ranks of this job; start a multiple of {} ranks, or choose extents whose "
         "product divides {}",
         grid, world, others, world);
  }
  const int64_t data = o.data == 0 ? world / others : o.data;
  if (data * others != world) {
    fail(ErrorKind::config,
         "parallel.data = {} x {} needs {} ranks, this job has {}; start {} ranks, or set parallel.data = \"auto\"",
         o.data, grid, data * others, world, data * others);
  }
  return MeshShape(o.pipeline, data, o.ring, o.ulysses, o.tensor, o.expert, o.zero_group, o.key_replicas);
}

Mesh::Mesh(Communicator& world, const ParallelOptions& options)
    : world_(world), shape_(resolve_mesh(options, world.size())), coordinate_(shape_.coordinate(world.rank())) {
  for (const AxisSet axes : {AxisSet{}, AxisSet{Axis::dp}, AxisSet{Axis::ring}, AxisSet{Axis::uly}, AxisSet{Axis::tp},
                             kContextAxes, AxisSet{Axis::dp, Axis::ring}, AxisSet{Axis::dp, Axis::uly},
                             kDataContextAxes, AxisSet{Axis::kvrep}, AxisSet{Axis::zero}, AxisSet{Axis::zrep}}) {
    create(communicators_, axes, "");
  }
  for (const AxisSet axes : {AxisSet{}, used(kDataContextAxes), AxisSet{Axis::zero}, AxisSet{Axis::zrep}}) {
    create(gradients_, axes, " (gradients)");
  }
}

void Mesh::create(Communicators& into, AxisSet axes, const char* purpose) {
  if (used(axes) != axes || into.contains(axes)) return;
  const auto members = shape_.group(world_.rank(), axes);
  // Groups are disjoint, so their first member numbers them; members are in rank order.
  auto comm = world_.split(static_cast<int>(members.front()), world_.rank(), to_string(axes) + purpose);
  warm_up(*comm);
  into.emplace(axes, std::move(comm));
}

AxisSet Mesh::used(AxisSet axes) const {
  AxisSet result;
  for (const Axis a : kEveryAxis) {
    if (axes.contains(a) && shape_.extent(a) > 1) result = result | AxisSet{a};
  }
  return result;
}

Communicator& Mesh::find(const Communicators& among, AxisSet axes) const {
  const auto found = among.find(used(axes));
  if (found == among.end()) fail(ErrorKind::internal, "mesh: no communicator for axis set {}", to_string(axes));
  return *found->second;
}

Communicator& Mesh::communicator(AxisSet axes) { return find(communicators_, axes); }
Communicator& Mesh::gradients(AxisSet axes) { return find(gradients_, axes); }

std::string Mesh::describe() const {
  std::string text = fmt::format("data {}", shape_.extent(Axis::dp));
  for (const auto& [axis, name] : {std::pair{Axis::ring, "ring"}, {Axis::uly, "ulysses"}, {Axis::tp, "tensor"}}) {
    if (axis == Axis::ring || shape_.extent(axis) > 1) text += fmt::format(" x {} {}", name, shape_.extent(axis));
  }
  return fmt::format("{} ({} {})", text, shape_.world(), shape_.world() == 1 ? "rank" : "ranks");
}

}  // namespace farsight
