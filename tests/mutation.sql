-- A random sample of :n mutants, without bit operations in place of arithmetic, which nearly every test notices.
create temp table sample as select job_id from mutation_specs
    where operator_name not like '%Bit%' and operator_name not like '%Shift%' order by random() limit :n;
delete from mutation_specs where job_id not in sample;
delete from work_items where job_id not in sample;
