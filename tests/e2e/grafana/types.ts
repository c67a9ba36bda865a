// What a dashboard file may hold, by Grafana's own types. JSON has no enums: their values do.
import type {
  Dashboard,
  FieldConfig,
  FieldConfigSource,
  Panel,
  VariableModel,
} from "@grafana/schema/dist/types/raw/dashboard/x/types.gen";
import type * as barchart from "@grafana/schema/dist/types/raw/composable/barchart/panelcfg/x/types.gen";
import type * as bargauge from "@grafana/schema/dist/types/raw/composable/bargauge/panelcfg/x/types.gen";
import type * as stat from "@grafana/schema/dist/types/raw/composable/stat/panelcfg/x/types.gen";
import type * as timeline from "@grafana/schema/dist/types/raw/composable/statetimeline/panelcfg/x/types.gen";
import type * as table from "@grafana/schema/dist/types/raw/composable/table/panelcfg/x/types.gen";
import type * as timeseries from "@grafana/schema/dist/types/raw/composable/timeseries/panelcfg/x/types.gen";

type Plain<T> = 0 extends 1 & T
  ? T
  : T extends string
    ? `${T}`
    : T extends object
      ? { [K in keyof T]: Plain<T[K]> }
      : T;

// Grafana's package has no type for a Prometheus query: this is what its editor writes.
interface Target {
  refId: string;
  datasource: { type: "prometheus"; uid: "meterd" };
  editorMode: "code";
  expr: string;
  legendFormat: string;
  range: boolean;
  instant: boolean;
  format?: "time_series" | "table";
}

type PanelOf<Type extends string, Options, Custom> = Omit<
  Plain<Panel>,
  "type" | "title" | "options" | "fieldConfig" | "targets"
> & {
  type: Type;
  title: string;
  targets: Target[];
  options: Plain<Options>;
  fieldConfig: Omit<Plain<FieldConfigSource>, "defaults"> & {
    defaults: Omit<Plain<FieldConfig>, "custom"> & { custom?: Plain<Custom> };
  };
};

type Known =
  | PanelOf<"timeseries", timeseries.Options, timeseries.FieldConfig>
  | PanelOf<"barchart", barchart.Options, barchart.FieldConfig>
  | PanelOf<"state-timeline", timeline.Options, timeline.FieldConfig>
  | PanelOf<"stat", stat.Options, never>
  | PanelOf<"bargauge", bargauge.Options, never>
  | PanelOf<"table", table.Options, table.FieldConfig>;

export type Board = Omit<Plain<Dashboard>, "panels" | "templating"> & {
  uid: string;
  title: string;
  panels: Known[];
  templating: { list: (Plain<VariableModel> & { definition: string })[] };
};
