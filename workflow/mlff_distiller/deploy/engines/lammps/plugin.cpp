// What `plugin load mlff_distiller_plugin.so` calls.
#include "error.h"
#include "lammps.h"
#include "pair_mlff_distiller.h"
#include "utils.h"

// The date of the LAMMPS whose headers these are, as a number; a source tree has version.h, installed headers have not.
#ifndef MLFF_LAMMPS_VERSION
#include "version.h"
#define MLFF_LAMMPS_VERSION LAMMPS_NS::utils::date2num(LAMMPS_VERSION)
#endif

using namespace LAMMPS_NS;

// As in lammpsplugin.h, which installed headers lack.
extern "C" {
struct lammpsplugin_t {
  const char *version, *style, *name, *info, *author;
  union {
    void *(*v1)(void *);
    void *(*v2)(void *, int, char **);
  } creator;
  void *handle;
};

void lammpsplugin_init(void *lmp, void *handle, void *regfunc);
}

static void *create(void *lmp)
{
  return new PairMLFFDistiller(static_cast<LAMMPS *>(lmp));
}

void lammpsplugin_init(void *given, void *handle, void *regfunc)
{
  auto *lmp = static_cast<LAMMPS *>(given);
  // Another version's classes are laid out differently.
  const int compiled = MLFF_LAMMPS_VERSION;
  if (lmp->num_ver != compiled)
    lmp->error->all(FLERR, "mlff_distiller_plugin.so was compiled for LAMMPS of " + std::to_string(compiled) + ", and this is of " +
                               std::to_string(lmp->num_ver) + ": run make in its folder with this LAMMPS");
  lammpsplugin_t plugin;
  plugin.version = lmp->version;
  plugin.style = "pair";
  plugin.name = "mlff_distiller";
  plugin.info = "a student of MLFF Distiller";
  plugin.author = "MLFF Distiller";
  plugin.creator.v1 = create;
  plugin.handle = handle;
  reinterpret_cast<void (*)(lammpsplugin_t *, void *)>(regfunc)(&plugin, lmp);
}
