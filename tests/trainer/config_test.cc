// SPDX-License-Identifier: Apache-2.0
// Expected messages and values come from the interface specification and from hand calculation.
#include "trainer/config.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <locale>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/error.h"
#include "trainer/config_registry.h"
#include "trainer/config_text.h"
#include "trainer/config_value.h"

namespace farsight {
namespace {

constexpr const char* kData = "[data]\ntrain = [\"c.h5\"]\n";

Config parse(const std::string& text, const std::vector<std::string>& overrides = {}) {
  return parse_config(text, "lm.toml", overrides);
}

// The message of the Error{config} that `text` gives; fails the test when there is none.
std::string problems(const std::string& text, const std::vector<std::string>& overrides = {}) {
  try {
    parse(text, overrides);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::config);
    return error.what();
  }
  ADD_FAILURE() << "accepted:\n" << text;
  return "";
}

struct Refusal {
  const char* text;
  const char* message;
};
void PrintTo(const Refusal& refusal, std::ostream* out) { *out << refusal.message; }

class ConfigRefusal : public ::testing::TestWithParam<Refusal> {};

TEST_P(ConfigRefusal, NamesPlaceProblemAndCure) {
  const std::string found = problems(GetParam().text);
  EXPECT_EQ(found, GetParam().message);
}

#define DATA "data.train = ['c']\n"
INSTANTIATE_TEST_SUITE_P(
    Everything, ConfigRefusal,
    ::testing::Values(
        Refusal{DATA "[parallel]\nrnig = 2\n", "lm.toml:3:1: error: unknown key 'parallel.rnig'; did you mean 'ring'?"},
        Refusal{DATA "[train]\nlr = 1\n", "lm.toml:3:1: error: unknown key 'train.lr'; did you mean 'optim.lr'?"},
        Refusal{DATA "[modle]\nlayers = 1\n", "lm.toml:2:2: error: unknown section 'modle'; did you mean '[model]'?"},
        Refusal{DATA "[log]\ntensorboard = true\n", "lm.toml:3:1: error: key 'log.tensorboard' is not in this build"},
        Refusal{DATA "model = 3\n", "lm.toml:2:9: error: 'model' must be a table: [model]"},
        Refusal{DATA "[model]\nlayers = \"four\"\n",
                "lm.toml:3:10: error: model.layers is \"four\"; needed: an integer 1 to 100000"},
        Refusal{DATA "[model]\nlayers = 0\n", "lm.toml:3:10: error: model.layers is 0; needed: an integer 1 to 100000"},
        Refusal{DATA "[model]\nlayers = 2.5\n",
                "lm.toml:3:10: error: model.layers is 2.5; needed: an integer 1 to 100000"},
        Refusal{DATA "[optim]\nlr = 0.0\n", "lm.toml:3:6: error: optim.lr is 0.0; needed: a number > 0"},
        Refusal{DATA "[optim]\nlr = nan\n", "lm.toml:3:6: error: optim.lr is nan; needed: a number > 0"},
        Refusal{DATA "[optim]\nlr = inf\n", "lm.toml:3:6: error: optim.lr is inf; needed: a number > 0"},
        Refusal{DATA "[optim]\nbetas = [0.9, 1.0]\n",
                "lm.toml:3:9: error: optim.betas is [0.9, 1.0]; needed: two numbers >= 0 and < 1, for example [0.9, "
                "0.95]"},
        Refusal{DATA "[model]\ndropout = 1.0\n",
                "lm.toml:3:11: error: model.dropout is 1.0; needed: a number >= 0 and < 1"},
        Refusal{DATA "[model]\nmlp = \"swiglo\"\n",
                "lm.toml:3:7: error: model.mlp is \"swiglo\"; needed: one of swiglu, gelu; did you mean 'swiglu'?"},
        Refusal{DATA "[attention]\nscore = \"cosine\"\n",
                "lm.toml:3:9: error: attention.score = \"cosine\" is not in this build; available: scaled_dot, "
                "additive"},
        Refusal{DATA "[parallel]\npipeline = 4\n",
                "lm.toml:3:12: error: parallel.pipeline = 4 is not in this build; available: 1"},
        Refusal{DATA "[parallel]\nzero = 4\n",
                "lm.toml:3:8: error: parallel.zero is 4; needed: an integer 0 to 3 or \"auto\""},
        Refusal{
            DATA "[parallel]\ntensor = 8\n",
            "lm.toml:3:10: error: parallel.tensor = 8 is more than model.heads = 4: a rank would have no head; choose "
            "tensor <= 4 [TP-HEADS]"},
        Refusal{DATA "[model]\nheads = 12\nkv_heads = 3\nwidth = 48\n[parallel]\ntensor = 4\n",
                "lm.toml:7:10: error: parallel.tensor = 4 is neither at most model.kv_heads = 3 nor a multiple of it: "
                "a key head can be on several ranks, but not a part of one [TP-KV-HEADS]"},
        Refusal{DATA "[parallel]\ntensor = 2\nulysses = 4\n",
                "lm.toml:4:11: error: 4 ranks share 2 heads by all-to-all (model.heads = 4 over parallel.tensor = 2): "
                "choose at most 2 and use parallel.ring for the others, or parallel.context = \"allgather\" "
                "[CP-ULYSSES-HEADS]"},
        Refusal{DATA "[parallel]\nring = 8\ncontext = \"ulysses\"\n",
                "lm.toml:4:11: error: 8 ranks share 4 heads by all-to-all (model.heads = 4 over parallel.tensor = 1): "
                "choose at most 4 and use parallel.ring for the others, or parallel.context = \"allgather\" "
                "[CP-ULYSSES-HEADS]"},
        Refusal{DATA "[parallel]\nsequence_parallel = false\n",
                "lm.toml:3:21: error: parallel.sequence_parallel = false has no effect: it needs parallel.tensor > 1"},
        Refusal{DATA "[parallel]\nzero_group = 2\n",
                "lm.toml:3:14: error: parallel.zero_group = 2 has no effect: it needs parallel.zero > 0"},
        Refusal{DATA "[parallel]\ngather_heads = 1\n",
                "lm.toml:3:16: error: parallel.gather_heads = 1 has no effect: it needs parallel.context = "
                "\"allgather\""},
        Refusal{DATA "[[parallel.override]]\nlayers = \"0..9\"\ncontext = \"ring\"\n",
                "lm.toml:2:1: error: parallel.override names layer 9, but model.layers = 4 are numbered from 0"},
        Refusal{DATA "[[parallel.override]]\nlayers = \"3..1\"\ncontext = \"ring\"\n",
                "lm.toml:2:1: error: parallel.override has layers = \"3..1\"; needed: \"N\" or \"FIRST..LAST\""},
        Refusal{DATA "[parallel]\ncontext = \"2d\"\n",
                "lm.toml:3:11: error: parallel.context is \"2d\"; needed: one of auto, ring, allgather, ulysses"},
        Refusal{DATA "[train]\nprecision = \"fp8\"\n",
                "lm.toml:3:13: error: train.precision = \"fp8\" is not in this build; available: f32, bf16"},
        Refusal{DATA "[attention]\nbackend = \"cudnn\"\n[run]\ndevice = \"cpu\"\n[train]\nprecision = \"bf16\"\n",
                "lm.toml:3:11: error: attention.backend = \"cudnn\" computes on CUDA devices, and run.device = "
                "\"cpu\""},
        Refusal{DATA "[attention]\nbackend = \"cudnn\"\n",
                "lm.toml:3:11: error: attention.backend = \"cudnn\" computes in bf16: set train.precision = \"bf16\""},
        Refusal{DATA "data.shuffle = \"blocks\"\n",
                "lm.toml:2:16: error: data.shuffle = \"blocks\" is not in this build; available: true, false"},
        Refusal{DATA "[model]\nbias = \"yes\"\n",
                "lm.toml:3:8: error: model.bias is \"yes\"; needed: true or false (also on/off, 1/0)"},
        Refusal{DATA "[eval]\nprompt = 3\n", "lm.toml:3:10: error: eval.prompt is 3; needed: a text in quotes"},
        Refusal{DATA "[eval]\nprompt = 2020-01-01\n",
                "lm.toml:3:10: error: eval.prompt is a date or time; needed: a text in quotes"},
        Refusal{"data.train = [1]\n",
                "lm.toml:1:14: error: data.train is [1]; needed: a list of texts, for example [\"a.h5\", \"b.h5\"]"},
        Refusal{DATA "[train]\nsteps = \"5 metres\"\n",
                "lm.toml:3:9: error: train.steps is \"5 metres\"; needed: more than 0 \"N steps\", \"N samples\", \"N "
                "tokens\" (also \"2Gt\") or \"N epochs\" (also \"10e\")"},
        Refusal{DATA "[train]\nbatch = 16\n",
                "lm.toml:3:9: error: train.batch is 16; needed: \"N samples\" or \"N tokens\""},
        Refusal{DATA "[train]\nbatch = \"1500 tokens\"\n",
                "lm.toml:3:9: error: train.batch = 1500 tokens is not a multiple of data.sequence = 1024; choose "
                "\"1024 tokens\" or \"2048 tokens\""},
        Refusal{DATA "[train]\nmicro_batch = 3\n",
                "lm.toml:3:15: error: train.batch = 16 samples is not a multiple of parallel.data = 1 x "
                "train.micro_batch = 3; choose a multiple of 3"},
        Refusal{DATA "[train]\ntime_limit = \"soon\"\n",
                "lm.toml:3:14: error: train.time_limit is \"soon\"; needed: a duration such as \"90s\", \"6m\", "
                "\"23h30m\""},
        Refusal{DATA "[parallel]\nbucket = \"1KiB\"\n",
                "lm.toml:3:10: error: parallel.bucket is \"1KiB\"; needed: a size such as \"4MiB\", at least 4KiB"},
        Refusal{DATA "[model]\nheads = 6\n",
                "lm.toml:3:9: error: model.width = 128 is not divisible by model.heads = 6; choose heads in "
                "{1,2,4,8,16,32,64,128}, or set model.head_width"},
        Refusal{DATA "[model]\nkv_heads = 3\n",
                "lm.toml:3:12: error: model.heads = 4 is not divisible by model.kv_heads = 3; choose kv_heads in "
                "{1,2,4}"},
        Refusal{DATA "[model]\nhead_width = 33\n",
                "lm.toml:3:14: error: model.head_width = 33 must be even for attention.position = \"rope\""},
        Refusal{DATA "[attention]\nscore = \"additive\"\n",
                "lm.toml:3:9: error: attention.position = \"rope\" rotates q and k, which attention.score = "
                "\"additive\" does not multiply; use position = \"learned\" or \"none\""},
        Refusal{
            DATA "[attention]\nmask = \"causal or full\"\n",
            "lm.toml:3:8: error: attention.mask is \"causal or full\"; 'causal or full' is not one of causal, full, "
            "window(left,right); needed: causal, full or window(left,right), joined with 'and'"},
        Refusal{DATA "[attention]\nmask = \"full\"\n",
                "lm.toml:3:8: error: attention.mask = \"full\" lets a token see the one it predicts, and task.kind = "
                "\"lm\" would learn to copy; add 'causal'"},
        Refusal{DATA "[optim]\nmomentum = 0.9\n",
                "lm.toml:3:12: error: optim.momentum = 0.9 has no effect: it needs optim.name = \"sgd\""},
        Refusal{DATA "[attention]\nposition = \"none\"\nrope_theta = 5e5\n",
                "lm.toml:4:14: error: attention.rope_theta = 500000.0 has no effect: it needs attention.position = "
                "\"rope\""},
        Refusal{DATA "[optim]\nmin_lr = 1.0\n",
                "lm.toml:3:10: error: optim.min_lr = 1 is larger than optim.lr = 0.001"},
        Refusal{DATA "[optim]\nwarmup = \"2000 steps\"\n",
                "lm.toml:3:10: error: optim.warmup = 2000 steps is longer than train.steps = 1000 steps"},
        Refusal{
            DATA "data.sequence = 4\nparallel.ring = 4\nparallel.order = \"zigzag\"\n",
            "lm.toml:3:17: error: data.sequence = 4 is too short for parallel.ring = 4 x parallel.ulysses = 1 ranks in "
            "order zigzag: it "
            "needs at least 8 tokens"},
        Refusal{"[run]\nseed = 1\n",
                "lm.toml: error: data.train is missing: the HDF5 files to train on, for example train = "
                "[\"corpus.h5\"]"},
        Refusal{DATA "[run]\nname = \"a/b\"\n", "lm.toml:3:8: error: run.name = \"a/b\" must be a name without '/'"},
        Refusal{DATA "eval.prompt = \"${FARSIGHT_TEST_UNSET}\"\n",
                "lm.toml:2:15: error: environment variable 'FARSIGHT_TEST_UNSET' is not set"},
        Refusal{DATA "eval.prompt = \"${open\"\n", "lm.toml:2:15: error: '${open' has no closing brace"},
        Refusal{DATA "extends = 3\n",
                "lm.toml:2:11: error: 'extends' must be a list of file names, for example [\"base.toml\"]"},
        Refusal{DATA "extends = [\"no/such.toml\"]\n",
                "lm.toml:2:12: error: cannot open 'no/such.toml': No such file or directory"}));
#undef DATA

TEST(Config, SyntaxErrorHasLineAndColumn) {
  const std::string found = problems("[model]\nlayers = \n");
  EXPECT_EQ(found.find("lm.toml:2:1"), 0U) << found;
  EXPECT_NE(found.find(": error: "), std::string::npos);
}

TEST(Config, ReportsEveryProblemAtOnce) {
  const std::string found =
      problems("[model]\nlayers = 0\nhaeds = 2\n[optim]\nlr = -1\n", {"train.foo=1", "model.width"});
  for (const char* part : {"lm.toml:2:10: error: model.layers is 0", "lm.toml:3:1: error: unknown key 'model.haeds'",
                           "lm.toml:5:6: error: optim.lr is -1", "command line: error: unknown key 'train.foo'",
                           "command line: error: '--model.width' needs a value", "data.train is missing"})
    EXPECT_NE(found.find(part), std::string::npos) << part << "\nnot in\n" << found;
}

TEST(Config, UnreadableKeyHidesTheRulesAboutIt) {
  // heads could not be read: its default must not be judged against kv_heads.
  const std::string found = problems(std::string(kData) + "[model]\nheads = \"x\"\nkv_heads = 3\n");
  EXPECT_EQ(found.find("divisible"), std::string::npos) << found;
}

TEST(Config, ResolvesWidthsThatFollowFromOthers) {
  const Config swiglu = parse(std::string(kData) + "[model]\nwidth = 768\nheads = 12\n");
  EXPECT_EQ(swiglu.model.kv_heads, 12);
  EXPECT_EQ(swiglu.model.head_width, 64);
  EXPECT_EQ(swiglu.model.mlp_width, 2048);  // 8/3 * 768
  EXPECT_EQ(parse(std::string(kData) + "[model]\nmlp = \"gelu\"\n").model.mlp_width, 512);
  EXPECT_EQ(parse(std::string(kData) + "[model]\nwidth = 128\n").model.mlp_width, 352);  // 341.3 to a multiple of 32
}

TEST(Config, BatchCountsSamples) {
  const Config config = parse(std::string(kData) + "sequence = 4096\n[train]\nbatch = \"16384 tokens\"\n");
  EXPECT_EQ(config.train.batch_samples, 4);
  EXPECT_EQ(config.train.batch, (Amount{4.0, AmountUnit::samples}));
}

TEST(Config, NameAndDirectoryFollowTheFile) {
  const Config config = parse_config(kData, "some/where/wiki.toml");
  EXPECT_EQ(config.run.name, "wiki");
  EXPECT_EQ(config.run.dir, "runs/wiki");
  EXPECT_EQ(parse(kData, {"run.name=b", "run.dir=/x/{name}/{name}"}).run.dir, "/x/b/b");
}

TEST(Config, OverridesNeedNoQuotes) {
  const Config config = parse(kData, {"optim.lr=3e-4", "model.mlp=gelu", "train.steps=50 steps", "run.name=2026",
                                      "data.train=[\"a.h5\", \"b.h5\"]", "data.shuffle=off", "train.micro_batch=2",
                                      "attention.mask=causal and window(64,0)", "eval.prompt=# not a comment"});
  EXPECT_DOUBLE_EQ(config.optim.lr, 3e-4);
  EXPECT_EQ(config.model.mlp, MlpChoice::gelu);
  EXPECT_EQ(config.train.steps, (Amount{50.0, AmountUnit::steps}));
  EXPECT_EQ(config.run.name, "2026");
  EXPECT_EQ(config.data.train, (std::vector<std::string>{"a.h5", "b.h5"}));
  EXPECT_FALSE(config.data.shuffle);
  EXPECT_EQ(config.train.micro_batch, 2);
  EXPECT_EQ(config.attention.mask.window_left, 64);
  EXPECT_EQ(config.eval.prompt, "# not a comment");
  EXPECT_EQ(config.origins.at("optim.lr"), "command line");
}

TEST(Config, EffectiveTextReadsBackEqual) {
  const std::string text =
      std::string(kData) +
      "sequence = 512\npack = \"concat\"\nverify = \"full\"\n"
      "[model]\nwidth = 96\nheads = 6\nkv_heads = 2\ndropout = 0.1\nnorm_eps = 1e-6\n"
      "[attention]\nmask = \"causal and window(100,7)\"\nposition = \"learned\"\nbias = \"alibi\"\n"
      "[optim]\nname = \"sgd\"\nmomentum = 0.9\nwarmup = \"1.5e\"\n"
      "[train]\nsteps = \"2Gt\"\nbatch = \"4096 tokens\"\ntime_limit = \"23h30m\"\nrecompute = \"layer\"\n"
      "[eval]\nprompt = \"a \\\"quoted\\\" \\\\ line\\nnext\\u007f\"\n"
      "[checkpoint]\nchunk = \"3MiB\"\nlock_wait = \"250ms\"\n";
  const Config config = parse(text);
  const Config again = parse_config(to_toml(config), "another.toml");
  EXPECT_EQ(to_toml(again), to_toml(config));
  EXPECT_TRUE(again == config);
  EXPECT_EQ(config_hash(again), config_hash(config));
  EXPECT_NE(config_hash(parse(text, {"run.seed=7"})), config_hash(config));
  EXPECT_TRUE(parse_config(annotated_toml(config), "another.toml") == config);
}

TEST(Config, StarterConfigurationIsValid) { EXPECT_NO_THROW(parse_config(starter_config(), "starter.toml")); }

TEST(Config, EveryKeyHasDocumentationAndAnExampleThatItAccepts) {
  for (const ConfigKey& key : config_keys()) {
    EXPECT_FALSE(key.doc.empty()) << key.name;
    EXPECT_NE(explain_key(key.name).find(key.doc), std::string::npos);
    EXPECT_NE(reference_page().find("`" + key.short_name() + "`"), std::string::npos);
    const std::string setting = "[" + key.section() + "]\n" + key.short_name() + " = " + key.example + "\n";
    try {
      parse(setting);
    } catch (const Error& error) {
      // Rules between keys may object to an example alone; the key itself must take it.
      EXPECT_EQ(std::string(error.what()).find(key.name + " is "), std::string::npos) << error.what();
      EXPECT_EQ(std::string(error.what()).find("not in this build"), std::string::npos) << error.what();
    }
  }
}

TEST(Config, NumbersDoNotDependOnTheLocale) {
  struct Comma : std::numpunct<char> {
    char do_decimal_point() const override { return ','; }
    char do_thousands_sep() const override { return '.'; }
    std::string do_grouping() const override { return "\3"; }
  };
  const std::string text = std::string(kData) + "sequence = 65536\n[optim]\nlr = 0.00025\nwarmup = \"1.5e\"\n";
  const std::string expected = to_toml(parse(text));
  const std::locale before = std::locale::global(std::locale(std::locale::classic(), new Comma));
  const std::string found = to_toml(parse(text, {"optim.clip=2.5"}));
  const std::string again = to_toml(parse(text));
  std::locale::global(before);
  EXPECT_EQ(again, expected);
  EXPECT_NE(found.find("clip = 2.5\n"), std::string::npos);
  EXPECT_NE(found.find("lr = 0.00025\n"), std::string::npos);
}

class ConfigFiles : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() /
              ("farsight-config-" + std::to_string(::testing::UnitTest::GetInstance()->random_seed()) + "-" +
               std::to_string(getpid()));
    std::filesystem::create_directories(folder_ / "sub");
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string write(const std::string& name, const std::string& text) {
    std::ofstream(folder_ / name) << text;
    return (folder_ / name).string();
  }
  std::string failure(const std::string& path) {
    try {
      load_config(path);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::config);
      return error.what();
    }
    return "";
  }
  std::filesystem::path folder_;
};

TEST_F(ConfigFiles, LaterSourcesWin) {
  write("sub/base.toml", "[optim]\nlr = 0.1\nclip = 3\n[model]\nlayers = 7\n[data]\ntrain = ['b']\n");
  const std::string path = write("lm.toml", "extends = [\"sub/base.toml\"]\n[optim]\nlr = 0.2\nweight_decay = 0.5\n");
  const Config config = load_config(path, {"optim.weight_decay=0.25"});
  EXPECT_EQ(config.model.layers, 7);
  EXPECT_DOUBLE_EQ(config.optim.lr, 0.2);
  EXPECT_DOUBLE_EQ(config.optim.clip, 3.0);
  EXPECT_DOUBLE_EQ(config.optim.weight_decay, 0.25);
  EXPECT_EQ(config.origins.at("model.layers"), (folder_ / "sub/base.toml").string() + ":5:10");
  EXPECT_NE(config.input.find("lr = 0.2"), std::string::npos);
  EXPECT_NE(config.input.find("#   --optim.weight_decay=0.25"), std::string::npos);
}

TEST_F(ConfigFiles, CircleOfBasesIsNamed) {
  write("a.toml", "extends = \"b.toml\"\n");
  write("b.toml", "extends = \"a.toml\"\n");
  const std::string found = failure((folder_ / "a.toml").string());
  EXPECT_NE(found.find("b.toml:1:11: error: 'extends' goes round in a circle: a.toml -> b.toml -> a.toml"),
            std::string::npos)
      << found;
}

TEST_F(ConfigFiles, VariablesAreExpanded) {
  setenv("FARSIGHT_TEST_ROOT", "/data", 1);
  const Config config =
      load_config(write("lm.toml", "data.train = [\"${FARSIGHT_TEST_ROOT}/x-${FARSIGHT_TEST_ROOT}.h5\"]\n"));
  EXPECT_EQ(config.data.train.front(), "/data/x-/data.h5");
}

TEST_F(ConfigFiles, MissingFileGivesOneMessage) {
  const std::string path = (folder_ / "none.toml").string();
  EXPECT_EQ(failure(path), path + ": error: cannot open '" + path + "': No such file or directory");
}

TEST_F(ConfigFiles, FolderIsNoConfiguration) {
  EXPECT_NE(failure(folder_.string()).find("it is a directory"), std::string::npos);
}

TEST(ConfigLayout, DataTakesWhatTheRingLeaves) {
  const Config config = parse(std::string(kData) + "[parallel]\nring = 2\n");
  const RunLayout layout = resolve_layout(config, 8);
  EXPECT_EQ(layout.data, 4);
  EXPECT_EQ(layout.ring, 2);
  EXPECT_EQ(layout.order, OrderChoice::striped);  // packed documents
  EXPECT_EQ(layout.micro_batch * layout.passes * layout.data, 16);
  EXPECT_EQ(resolve_layout(parse(kData, {"parallel.ring=2", "data.pack=concat"}), 2).order, OrderChoice::zigzag);
  EXPECT_EQ(resolve_layout(parse(kData), 1).order, OrderChoice::contiguous);
}

TEST(ConfigLayout, RanksThatDoNotMatchListLegalLayouts) {
  const Config config = parse(std::string(kData) + "[parallel]\nring = 2\ndata = 2\n");
  try {
    resolve_layout(config, 6);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::config);
    // data must divide 16 samples: 6 and 3 do not.
    EXPECT_STREQ(
        error.what(),
        "lm.toml:4:8: error: ranks that do not match the layout: parallel.data = 2 x parallel.ring = 2 needs 4 "
        "ranks, the job has 6; legal layouts of 6 ranks: data=2 ring=3, data=1 ring=6");
  }
}

TEST(ConfigLayout, WithoutAnyLegalLayoutSaysWhatStandsInTheWay) {
  const auto legal = [](const std::vector<std::string>& overrides, int64_t ranks) -> std::string {
    try {
      resolve_layout(parse(kData, overrides), ranks);
    } catch (const Error& error) {
      const std::string what = error.what();
      return what.substr(what.find("legal layouts"));
    }
    return "accepted";
  };
  EXPECT_EQ(legal({"parallel.tensor=3"}, 4),
            "legal layouts of 4 ranks: none with parallel.tensor = 3 and train.batch = 16 samples");
}

TEST(ConfigLayout, BatchMustDivideOverDataRanks) {
  EXPECT_THROW(resolve_layout(parse(kData), 3), Error);
  EXPECT_EQ(resolve_layout(parse(kData, {"train.batch=12 samples"}), 3).data, 3);
}

TEST(ConfigAmount, StepsAreRoundedUp) {
  const Config config = parse(kData, {"train.batch=8 samples", "data.sequence=100"});
  EXPECT_EQ(amount_in_steps({7, AmountUnit::steps}, config, 50), 7);
  EXPECT_EQ(amount_in_steps({17, AmountUnit::samples}, config, 50), 3);
  EXPECT_EQ(amount_in_steps({1601, AmountUnit::tokens}, config, 50), 3);
  EXPECT_EQ(amount_in_steps({2, AmountUnit::epochs}, config, 50), 13);  // 100 samples in steps of 8
  EXPECT_EQ(amount_in_steps({0, AmountUnit::steps}, config, 50), 0);
}

TEST(ConfigResume, ArchitectureMustMatchAndRatesWarn) {
  const Config saved = parse(kData);
  const Config now = parse(kData, {"optim.lr=0.5", "log.every=3 steps", "train.micro_batch=4", "parallel.ring=2"});
  const auto warnings = check_resume_config(saved, now);
  ASSERT_EQ(warnings.size(), 1U);
  EXPECT_EQ(warnings[0], "optim.lr = 0.5, the checkpoint was trained with 0.001; the configuration wins");
  EXPECT_EQ(config_differences(saved, now).size(), 4U);
  try {
    check_resume_config(saved, parse(kData, {"model.layers=5", "optim.name=sgd"}));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::config);
    const std::string found = error.what();
    EXPECT_NE(found.find("command line: error: model.layers = 5, the checkpoint was trained with 4"),
              std::string::npos);
    EXPECT_NE(found.find("optim.name = \"sgd\", the checkpoint was trained with \"adamw\""), std::string::npos);
  }
}

}  // namespace
}  // namespace farsight
